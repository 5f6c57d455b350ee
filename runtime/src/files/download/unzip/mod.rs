//! What is in a zip archive, into the job's folder.

mod entry_name;
mod extraction;
mod zip64;

use std::io;
use std::path::{Path, PathBuf};

use crate::handler::Context;

use extraction::{UnzipLimits, extract};

/// Entries of an archive.
const MAX_ENTRIES: usize = 100_000;
/// How many times its size an archive may become.
const MAX_RATIO: u64 = 200;

/// Extracts zip archives into a new folder inside the job's [folder](Context::folder).
///
/// An archive comes from outside, so it is refused as a whole, and nothing of it is left, when an entry would be
/// written elsewhere, is a link, a device, encrypted or damaged, is there twice, or when there are too many or too much
/// comes of them. Entries are stored or deflated; their dates and permissions are left out.
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
#[must_use = "nothing is extracted before `extract`"]
pub struct Unzip<'a> {
    cx: &'a Context,
    limits: UnzipLimits,
}

/// Why an archive could not be extracted.
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
///         Err(UnzipError::Damaged { .. }) => Ok("no archive"), // … then it is one file
///         Err(error) => Err(error.into()),
///     }
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let job = TestJob::new(json!("data:,text")).run::<unpack>().await;
/// assert_eq!(job.result.unwrap(), json!("no archive"));
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnzipError {
    /// It is no zip archive, or none that can be read.
    #[error("the archive cannot be read: {problem}")]
    Damaged {
        /// What is wrong.
        problem: String,
    },

    /// An entry is none that is extracted.
    #[error("the archive's entry `{name}` {problem}")]
    Entry {
        /// The entry's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },

    /// There are too many entries, or too many folders that their names imply.
    #[error(
        "the archive has more than {limit} files and folders, or a list of them that is too long"
    )]
    TooMany {
        /// Most files and folders.
        limit: usize,
    },

    /// Too much would come of it.
    #[error("the archive becomes more than {limit} bytes, the most {because}")]
    TooLarge {
        /// Most bytes.
        limit: u64,
        /// Why it is not more.
        because: String,
    },

    /// It could not be written into the job's folder.
    #[error("the archive could not be extracted: {0}")]
    Disk(#[from] io::Error),

    /// The job was told to stop.
    #[error("the job was told to stop")]
    Stopped,
}

impl<'a> Unzip<'a> {
    /// Extracts for this job.
    pub fn new(cx: &'a Context) -> Self {
        let limits = UnzipLimits {
            bytes: cx.download_limits().max_bytes,
            entries: MAX_ENTRIES,
            ratio: MAX_RATIO,
        };
        Self { cx, limits }
    }

    /// Most bytes that may come of an archive; `RUNPOD_MAX_DOWNLOAD_BYTES`, else 5 GiB, unless it is set.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Most entries of an archive, files and folders, with those that are only named as parts of a path; 100,000 unless it
    /// is set.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.limits.entries = entries;
        self
    }

    /// How many times its own size an archive may become, beyond 64 MiB; 200 unless it is set.
    pub fn max_ratio(mut self, times: u64) -> Self {
        self.limits.ratio = times;
        self
    }

    /// Extracts an archive into a folder of its own, which is called like it, and says where that is.
    ///
    /// # Errors
    /// See [`UnzipError`]. Then nothing of it is left.
    pub async fn extract(&self, archive: impl AsRef<Path>) -> Result<PathBuf, UnzipError> {
        let stop = self.cx.stop_token();
        // This future may be dropped before the thread has ended.
        let _stop = stop.clone().drop_guard();
        let (cx, limits) = (self.cx.clone(), self.limits);
        let archive = archive.as_ref().to_owned();
        let extract = move || extract(&cx.folder()?, &archive, limits, stop);
        self.cx.blocking(extract).await?
    }

    /// [`extract`](Self::extract) for a handler that is a plain `fn`.
    ///
    /// # Errors
    /// As there; or the job is told to stop.
    ///
    /// # Panics
    /// It is called in async code.
    pub fn extract_blocking(&self, archive: impl AsRef<Path>) -> Result<PathBuf, UnzipError> {
        self.cx.wait(self.extract(archive), UnzipError::Stopped)
    }
}
