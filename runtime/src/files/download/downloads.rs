//! The public API of downloads.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use futures::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use tempfile::TempPath;
use tokio_util::task::TaskTracker;

use crate::files::transferred::Transferred;
use crate::handler::Context;
use crate::net::public_only::AddressGuard;
use crate::renamed::renamed;

use super::client::FileClient;
use super::error::DownloadError;
use super::remote_file::RemoteFile;
use super::tally::Tally;
use super::transfer::Download;

/// The default of [`Downloads::concurrency`].
const CONCURRENCY: usize = 4;
/// The default of [`Downloads::idle_timeout`].
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Downloads files into a job's folder, like [`RemoteFile::download`], with more options.
///
/// URLs must be `http:`, `https:` or `data:`, and their hosts must have public addresses. At most 5 redirects are
/// followed, and each target must meet the same rules. The client connects to the same address that it has checked. It
/// uses no proxy, unless private addresses are allowed.
///
/// A download is attempted up to 5 times. A new attempt resumes where the last one broke off if the server still has
/// the same version of the file (`Range` and `If-Range`), and otherwise starts again. Bytes are stored as received,
/// without decompression. A file that cannot be downloaded completely leaves nothing behind.
///
/// The name of the file is the one in the input, or else the one in the response or the URL, or else `file`. If the
/// name is already taken, a number is added to it.
///
/// ```
/// use podwork::files::{Downloads, RemoteFile};
/// use podwork::testing::TestJob;
/// use podwork::{Context, Result, handler};
/// use serde_json::json;
///
/// #[handler]
/// async fn lengths(files: Vec<RemoteFile>, cx: Context) -> Result<Vec<u64>> {
///     let paths = Downloads::new(&cx)
///         .concurrency(8)
///         .max_bytes(100 * 1024 * 1024)
///         .progress(|so_far| cx.progress(so_far))
///         .fetch_all(&files)
///         .await?;
///     let lengths = paths.iter().map(|path| Ok(std::fs::metadata(path)?.len()));
///     lengths.collect()
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let job = TestJob::new(json!(["data:,one", "data:,three"])).run::<lengths>().await;
/// assert_eq!(job.result.unwrap(), json!([3, 5]));
/// assert_eq!(job.progress.last(), Some(&json!({"bytes": 8, "of": 8})));
/// # });
/// ```
#[must_use = "does nothing until `fetch` or `fetch_all` is called"]
pub struct Downloads<'a> {
    cx: &'a Context,
    concurrency: usize,
    max_bytes: u64,
    idle_timeout: Duration,
    progress: Option<Box<dyn Fn(Transferred) + Send + Sync + 'a>>,
}

impl fmt::Debug for Downloads<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downloads")
            .field("concurrency", &self.concurrency)
            .field("max_bytes", &self.max_bytes)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}

impl<'a> Downloads<'a> {
    /// Creates a downloader for this job.
    pub fn new(cx: &'a Context) -> Self {
        Self {
            cx,
            concurrency: CONCURRENCY,
            max_bytes: cx.download_limits().max_bytes,
            idle_timeout: IDLE_TIMEOUT,
            progress: None,
        }
    }

    /// Sets the maximum number of concurrent downloads in [`fetch_all`](Self::fetch_all). Default: 4. 0 counts as 1.
    pub fn concurrency(mut self, files: usize) -> Self {
        self.concurrency = files.max(1);
        self
    }

    /// Sets the maximum size of each file, in bytes. Default: `RUNPOD_MAX_DOWNLOAD_BYTES`, or else 5 GiB. The value may
    /// be higher than the default.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the time in which a server must accept the connection and begin its response. Default: 30 s.
    ///
    /// It is also the window in which the body must arrive faster than 1 KiB/s. An attempt that is slower counts as
    /// failed.
    pub fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.idle_timeout = idle_timeout;
        self
    }

    renamed! {
        at_once => concurrency,
        patience => idle_timeout,
    }

    /// Calls `report` with the progress of all files together: after each MiB, and after each file.
    pub fn progress(mut self, report: impl Fn(Transferred) + Send + Sync + 'a) -> Self {
        self.progress = Some(Box::new(report));
        self
    }

    /// Downloads a file and returns its path.
    ///
    /// # Errors
    /// Returns a [`DownloadError`] if the download fails. No partial file is left.
    pub async fn fetch(&self, file: &RemoteFile) -> Result<PathBuf, DownloadError> {
        let mut paths = self.fetch_all(std::slice::from_ref(file)).await?;
        Ok(paths.remove(0))
    }

    /// Downloads files [concurrently](Self::concurrency) and returns their paths, in the order of `files`.
    ///
    /// # Errors
    /// Returns the first error of a download, and cancels the others. No file is left, not even a complete one.
    pub async fn fetch_all(&self, files: &[RemoteFile]) -> Result<Vec<PathBuf>, DownloadError> {
        let guard = AddressGuard::new(self.cx.download_limits().allow_private);
        let client = self.cx.blocking(|| FileClient::new(guard)).await;
        let client = client.map_err(DownloadError::disk)?;
        let tally = Tally::new(files.len(), self.progress.as_deref());
        let (client, tally, making) = (&client, &tally, &TaskTracker::new());
        let one = |index: usize| {
            let download = Download {
                cx: self.cx,
                max_bytes: self.max_bytes,
                idle_timeout: self.idle_timeout,
                file: &files[index],
                client,
                tally: (tally, index),
                making,
            };
            download.run().map_ok(move |path| (index, path))
        };
        // Futures are created one by one: there may be many, and each is large.
        let fetching = futures::stream::iter(0..files.len()).map(one);
        // Unordered, so that a failure is returned at once.
        let fetched = fetching.buffer_unordered(self.concurrency);
        let paths: Result<BTreeMap<usize, TempPath>, _> = fetched.try_collect().await;
        // A blocking thread may still be creating a file for a download that was cancelled.
        making.close();
        making.wait().await;
        let kept = paths?.into_values().map(TempPath::keep);
        kept.collect::<Result<_, _>>()
            .map_err(|error| DownloadError::disk(error.error))
    }

    /// Blocking variant of [`fetch`](Self::fetch), for handlers that are a plain `fn`.
    ///
    /// # Errors
    /// Returns the errors of [`fetch`](Self::fetch), or [`DownloadError::Stopped`] if the job is cancelled.
    ///
    /// # Panics
    /// Panics if called in async code.
    pub fn fetch_blocking(&self, file: &RemoteFile) -> Result<PathBuf, DownloadError> {
        self.cx.wait(self.fetch(file), DownloadError::Stopped)
    }

    /// Blocking variant of [`fetch_all`](Self::fetch_all), for handlers that are a plain `fn`.
    ///
    /// # Errors
    /// Returns the errors of [`fetch_all`](Self::fetch_all), or [`DownloadError::Stopped`] if the job is cancelled.
    ///
    /// # Panics
    /// Panics if called in async code.
    pub fn fetch_all_blocking(&self, files: &[RemoteFile]) -> Result<Vec<PathBuf>, DownloadError> {
        self.cx.wait(self.fetch_all(files), DownloadError::Stopped)
    }
}

impl RemoteFile {
    /// Downloads the file into the job's folder and returns its path. [`Downloads`] has more options.
    ///
    /// # Errors
    /// Returns a [`DownloadError`] if the download fails. No partial file is left.
    pub async fn download(&self, cx: &Context) -> Result<PathBuf, DownloadError> {
        Downloads::new(cx).fetch(self).await
    }

    /// Blocking variant of [`download`](Self::download), for handlers that are a plain `fn`. It waits until the file is
    /// complete or the job is cancelled.
    ///
    /// ```
    /// # use podwork::files::RemoteFile;
    /// # use podwork::testing::TestJob;
    /// # use podwork::{Context, Result, handler};
    /// # use serde_json::json;
    /// #[handler]
    /// fn shout(file: RemoteFile, cx: Context) -> Result<String> {
    ///     let path = file.download_blocking(&cx)?;
    ///     Ok(std::fs::read_to_string(path)?.to_uppercase())
    /// }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// # let job = TestJob::new(json!("data:,hey")).run::<shout>().await;
    /// # assert_eq!(job.result.unwrap(), json!("HEY"));
    /// # });
    /// ```
    ///
    /// # Errors
    /// Returns the errors of [`download`](Self::download), or [`DownloadError::Stopped`] if the job is cancelled.
    ///
    /// # Panics
    /// Panics if called in async code.
    pub fn download_blocking(&self, cx: &Context) -> Result<PathBuf, DownloadError> {
        Downloads::new(cx).fetch_blocking(self)
    }
}
