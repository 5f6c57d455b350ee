//! Extraction of zip archives into a job's folder.

mod entry_name;
mod extraction;
mod zip64;

use std::io;
use std::path::{Path, PathBuf};

use crate::handler::Context;

use extraction::{UnzipLimits, extract};

/// The default of [`Unzip::max_entries`].
const MAX_ENTRIES: usize = 100_000;
/// The default of [`Unzip::max_ratio`].
const MAX_RATIO: u64 = 200;

/// Extracts zip archives into a new folder inside the job's [folder](Context::folder).
///
/// Archives come from outside, so an archive is refused as a whole if it has too many entries, if its content is too
/// large, or if one of its entries would be extracted outside the folder, is a link or a device, is encrypted or
/// damaged, or is a duplicate. A refused archive leaves nothing behind. Entries must be stored or deflated. Their dates
/// and permissions are ignored.
///
/// ```no_run
/// use podwork::files::{RemoteFile, Unzip};
/// use podwork::{Context, Result, handler};
///
/// #[handler]
/// async fn train(images: RemoteFile, cx: Context) -> Result<usize> {
///     let archive = images.download(&cx).await?;
///     let folder = Unzip::new(&cx).max_entries(500).extract(&archive).await?;
///     Ok(std::fs::read_dir(folder)?.count())
/// }
/// ```
#[derive(Debug)]
#[must_use = "does nothing until `extract` is called"]
pub struct Unzip<'a> {
    cx: &'a Context,
    limits: UnzipLimits,
}

/// The error of an extraction.
///
/// ```
/// use podwork::files::{RemoteFile, Unzip, UnzipError};
/// use podwork::testing::TestJob;
/// use podwork::{Context, Result, handler};
/// use serde_json::json;
///
/// #[handler]
/// async fn unpack(file: RemoteFile, cx: Context) -> Result<&'static str> {
///     let path = file.download(&cx).await?;
///     match Unzip::new(&cx).extract(&path).await {
///         Ok(_) => Ok("unpacked"),
///         Err(UnzipError::Damaged { .. }) => Ok("not an archive"), // use it as a single file
///         Err(error) => Err(error.into()),
///     }
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let job = TestJob::new(json!("data:,text")).run::<unpack>().await;
/// assert_eq!(job.result.unwrap(), json!("not an archive"));
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnzipError {
    /// The file is not a zip archive, or is damaged or unsupported.
    #[error("cannot read the archive: {problem}")]
    Damaged {
        /// The reason.
        problem: String,
    },

    /// An entry is damaged, or not allowed.
    #[error("the archive's entry `{name}` {problem}")]
    Entry {
        /// The entry's name.
        name: String,
        /// The reason, as the end of a sentence about the entry.
        problem: String,
    },

    /// The archive has too many entries, including the folders in their paths.
    #[error(
        "the archive has more than {limit} files and folders, or its list of entries is too long"
    )]
    TooMany {
        /// The maximum number of files and folders.
        limit: usize,
    },

    /// The content of the archive exceeds the maximum size.
    #[error("the archive expands to more than {limit} bytes, the limit {because}")]
    TooLarge {
        /// The maximum size, in bytes.
        limit: u64,
        /// The reason for this limit, as the end of a sentence.
        because: String,
    },

    /// The archive could not be opened, or its content could not be written into the job's folder.
    #[error("cannot extract the archive into the job's folder")]
    Disk {
        /// The cause.
        source: io::Error,
    },

    /// The job was cancelled.
    #[error("the job was cancelled")]
    Stopped,
}

impl UnzipError {
    fn disk(source: io::Error) -> Self {
        Self::Disk { source }
    }
}

impl<'a> Unzip<'a> {
    /// Creates an extractor for this job.
    pub fn new(cx: &'a Context) -> Self {
        let limits = UnzipLimits {
            bytes: cx.download_limits().max_bytes,
            entries: MAX_ENTRIES,
            ratio: MAX_RATIO,
        };
        Self { cx, limits }
    }

    /// Sets the maximum size of the extracted content of an archive, in bytes. Default: `RUNPOD_MAX_DOWNLOAD_BYTES`, or
    /// else 5 GiB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Sets the maximum number of files and folders in an archive, including folders that only occur in the paths of
    /// entries. Default: 100,000.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.limits.entries = entries;
        self
    }

    /// Sets the maximum ratio of the size of the content to the size of the archive. Content up to 64 MiB is allowed at
    /// any ratio. Default: 200.
    pub fn max_ratio(mut self, times: u64) -> Self {
        self.limits.ratio = times;
        self
    }

    /// Extracts an archive into a new folder, which is named after it, and returns the path of that folder.
    ///
    /// # Errors
    /// Returns an [`UnzipError`] if the extraction fails. No extracted file is left.
    pub async fn extract(&self, archive: impl AsRef<Path>) -> Result<PathBuf, UnzipError> {
        let stop = self.cx.stop_token();
        // If this future is dropped, the guard stops the thread.
        let _stop = stop.clone().drop_guard();
        let (cx, limits) = (self.cx.clone(), self.limits);
        let archive = archive.as_ref().to_owned();
        let extract = move || {
            let inside = cx.folder().map_err(UnzipError::disk)?;
            extract(&inside, &archive, limits, stop)
        };
        let extracted = self.cx.blocking(extract).await;
        extracted.map_err(UnzipError::disk)?
    }

    /// Blocking variant of [`extract`](Self::extract), for handlers that are a plain `fn`.
    ///
    /// # Errors
    /// Returns the errors of [`extract`](Self::extract), or [`UnzipError::Stopped`] if the job is cancelled.
    ///
    /// # Panics
    /// Panics if called in async code.
    pub fn extract_blocking(&self, archive: impl AsRef<Path>) -> Result<PathBuf, UnzipError> {
        self.cx.wait(self.extract(archive), UnzipError::Stopped)
    }
}
