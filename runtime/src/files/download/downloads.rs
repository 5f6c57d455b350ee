//! Downloads into a job's folder.

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

/// Downloads at once.
const CONCURRENCY: usize = 4;
/// How long nearly nothing may come.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Downloads into a job's folder, as [`RemoteFile::download`] does, with more to choose from.
///
/// A file has to come from a public address, by `http:`, `https:` or `data:`, after 5 redirects at most, each of which
/// is judged like the first URL. The address that was checked is the one that is connected to. No proxy is used,
/// unless private addresses are allowed. A connection that breaks is tried 5 times, each time from where the file broke
/// off, if the server knows that version of it again (`Range` and `If-Range`), else from its beginning. Bytes are
/// stored as they come; there is no decompression. A file that cannot be had in full leaves nothing behind.
///
/// It is called as the input says, else as the server or the URL says, else `file`; with a number, if there is one of
/// that name already.
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
#[must_use = "nothing is downloaded before `fetch` or `fetch_all`"]
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
    /// Downloads for this job.
    pub fn new(cx: &'a Context) -> Self {
        Self {
            cx,
            concurrency: CONCURRENCY,
            max_bytes: cx.download_limits().max_bytes,
            idle_timeout: IDLE_TIMEOUT,
            progress: None,
        }
    }

    /// How many of the files of [`fetch_all`](Self::fetch_all) come at once; 4 unless it is set. 0 counts as 1.
    pub fn concurrency(mut self, files: usize) -> Self {
        self.concurrency = files.max(1);
        self
    }

    /// Most bytes of one file; `RUNPOD_MAX_DOWNLOAD_BYTES`, else 5 GiB, unless it is set. It may be set to more, too.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long a server may take to connect and begin its answer, and then again and again for less than 1 KiB for
    /// each second of this time; 30 s unless it is set. One that is slower is taken for broken.
    pub fn idle_timeout(mut self, idle_timeout: Duration) -> Self {
        self.idle_timeout = idle_timeout;
        self
    }

    renamed! {
        at_once => concurrency,
        patience => idle_timeout,
    }

    /// Calls `report` with how far all files together are: every MiB, and once each is there.
    pub fn progress(mut self, report: impl Fn(Transferred) + Send + Sync + 'a) -> Self {
        self.progress = Some(Box::new(report));
        self
    }

    /// Downloads a file, and says where it is.
    ///
    /// # Errors
    /// See [`DownloadError`]. Then nothing of it is left.
    pub async fn fetch(&self, file: &RemoteFile) -> Result<PathBuf, DownloadError> {
        let mut paths = self.fetch_all(std::slice::from_ref(file)).await?;
        Ok(paths.remove(0))
    }

    /// Downloads files, some [at once](Self::concurrency), and says where they are, in the order of the files.
    ///
    /// # Errors
    /// The first that one of them comes to; the others are given up. Then nothing of any is left.
    pub async fn fetch_all(&self, files: &[RemoteFile]) -> Result<Vec<PathBuf>, DownloadError> {
        let guard = AddressGuard::new(self.cx.download_limits().allow_private);
        let client = self.cx.blocking(|| FileClient::new(guard)).await?;
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
        // Made one by one: there may be many, and each is large.
        let fetching = futures::stream::iter(0..files.len()).map(one);
        // Whichever comes first, so that no failure is held up.
        let fetched = fetching.buffer_unordered(self.concurrency);
        let paths: Result<BTreeMap<usize, TempPath>, _> = fetched.try_collect().await;
        // A thread may have been about to make a file when it was given up.
        making.close();
        making.wait().await;
        let kept = paths?.into_values().map(TempPath::keep);
        Ok(kept
            .collect::<Result<_, _>>()
            .map_err(|error| error.error)?)
    }

    /// [`fetch`](Self::fetch) for a handler that is a plain `fn`.
    ///
    /// # Errors
    /// As there; or the job is told to stop.
    ///
    /// # Panics
    /// It is called in async code.
    pub fn fetch_blocking(&self, file: &RemoteFile) -> Result<PathBuf, DownloadError> {
        self.cx.wait(self.fetch(file), DownloadError::Stopped)
    }

    /// [`fetch_all`](Self::fetch_all) for a handler that is a plain `fn`.
    ///
    /// # Errors
    /// As there; or the job is told to stop.
    ///
    /// # Panics
    /// It is called in async code.
    pub fn fetch_all_blocking(&self, files: &[RemoteFile]) -> Result<Vec<PathBuf>, DownloadError> {
        self.cx.wait(self.fetch_all(files), DownloadError::Stopped)
    }
}

impl RemoteFile {
    /// Downloads it into the job's folder, and says where it is. [`Downloads`] has more to choose from.
    ///
    /// # Errors
    /// See [`DownloadError`]. Then nothing of it is left.
    pub async fn download(&self, cx: &Context) -> Result<PathBuf, DownloadError> {
        Downloads::new(cx).fetch(self).await
    }

    /// The same for a handler that is a plain `fn`: it waits for the file, unless the job is told to stop.
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
    /// As [`download`](Self::download); or the job is told to stop.
    ///
    /// # Panics
    /// It is called in async code.
    pub fn download_blocking(&self, cx: &Context) -> Result<PathBuf, DownloadError> {
        Downloads::new(cx).fetch_blocking(self)
    }
}
