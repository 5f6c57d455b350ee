//! Downloads into a job's folder.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use data_url::DataUrl;
use futures::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use reqwest::header::{
    CONTENT_DISPOSITION, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED,
    RANGE,
};
use reqwest::{Response, StatusCode};
use tempfile::TempPath;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::debug;
use url::Url;

use crate::files::transferred::Transferred;
use crate::handler::Context;
use crate::net::backoff::Backoff;
use crate::net::client::causes;
use crate::net::http::{is_retryable_download, retry_after};
use crate::net::public_only::AddressGuard;

use super::address::Place;
use super::client::{DownloadFailure, FileClient};
use super::error::DownloadError;
use super::name;
use super::partial::Partial;
use super::remote_file::RemoteFile;
use super::tally::Tally;

/// How often one download is tried.
const TRIES: usize = 5;
/// Downloads at once.
const AT_ONCE: usize = 4;
/// How long nearly nothing may come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes a second that are nearly nothing.
const NEARLY_NOTHING: u64 = 1024;

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
///         .at_once(8)
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
    at_once: usize,
    max_bytes: u64,
    patience: Duration,
    progress: Option<Box<dyn Fn(Transferred) + Send + Sync + 'a>>,
}

impl fmt::Debug for Downloads<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downloads")
            .field("at_once", &self.at_once)
            .field("max_bytes", &self.max_bytes)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

impl<'a> Downloads<'a> {
    /// Downloads for this job.
    pub fn new(cx: &'a Context) -> Self {
        Self {
            cx,
            at_once: AT_ONCE,
            max_bytes: cx.download_limits().max_bytes,
            patience: PATIENCE,
            progress: None,
        }
    }

    /// How many of the files of [`fetch_all`](Self::fetch_all) come at once; 4 unless it is set. 0 counts as 1.
    pub fn at_once(mut self, files: usize) -> Self {
        self.at_once = files.max(1);
        self
    }

    /// Most bytes of one file; `RUNPOD_MAX_DOWNLOAD_BYTES`, else 5 GiB, unless it is set. It may be set to more, too.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How long a server may take to connect and begin its answer, and then again and again for less than 1 KiB for
    /// each second of this time; 30 s unless it is set. One that is slower is taken for broken.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
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

    /// Downloads files, some [at once](Self::at_once), and says where they are, in the order of the files.
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
                settings: self,
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
        let fetched = fetching.buffer_unordered(self.at_once);
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

/// One download.
struct Download<'a> {
    settings: &'a Downloads<'a>,
    file: &'a RemoteFile,
    client: &'a FileClient,
    tally: (&'a Tally<'a>, usize),
    making: &'a TaskTracker,
}

impl Download<'_> {
    async fn run(self) -> Result<TempPath, DownloadError> {
        let mut partial = Partial::new(self.settings.cx, self.making);
        match &self.file.place {
            Place::Here(url) => self.decode(url, &mut partial).await?,
            Place::At(url) => self.fetch(url, &mut partial).await?,
        }
        let (sum, path) = partial.end().await?;
        match self.file.sha256 {
            Some(expected) if expected != sum => Err(DownloadError::Checksum {
                url: self.file.shown(),
                expected: expected.to_string(),
                got: sum.to_string(),
            }),
            _ => Ok(path),
        }
    }

    /// What a data URL holds.
    async fn decode(&self, url: &str, partial: &mut Partial) -> Result<(), DownloadError> {
        let invalid = |problem: String| DownloadError::Url {
            url: self.file.shown(),
            problem,
        };
        let data = DataUrl::process(url).map_err(|error| invalid(error.to_string()))?;
        let decoded = data.decode_to_vec();
        let (bytes, _) = decoded.map_err(|error| invalid(error.to_string()))?;
        self.fits(bytes.len() as u64)?;
        partial.begin(self.name(None, None)).await?;
        partial.push(&bytes).await?;
        self.note(partial, Some(partial.len));
        Ok(())
    }

    /// What is at a URL, in as many tries as it takes and may.
    async fn fetch(&self, url: &Url, partial: &mut Partial) -> Result<(), DownloadError> {
        let mut pauses = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut tries = 0;
        loop {
            tries += 1;
            let (why, after) = match self.attempt(url, partial).await {
                Ok(()) => return Ok(()),
                Err(DownloadFailure::Final(error)) => return Err(error),
                Err(DownloadFailure::Retryable { why, after }) => (why, after),
            };
            if tries == TRIES {
                let url = self.file.shown();
                return Err(DownloadError::Broken { url, tries, why });
            }
            debug!(
                "{} is tried again from byte {}: {why}",
                self.file.shown(),
                partial.len
            );
            tokio::time::sleep(pauses.next(after)).await;
        }
    }

    /// One try, from where the last one broke off if that can be.
    async fn attempt(&self, url: &Url, partial: &mut Partial) -> Result<(), DownloadFailure> {
        let patience = self.settings.patience;
        let headers = resuming(partial);
        let answer = self.client.get(url, &headers, patience).await?;
        match answer.status() {
            StatusCode::OK => self.begin(url, &answer, partial).await?,
            StatusCode::PARTIAL_CONTENT if !headers.is_empty() => {
                let Some(total) = goes_on(answer.headers(), partial) else {
                    partial.version = None;
                    return Err(DownloadFailure::retryable(
                        "the server sent another part of the file than was asked for",
                    ));
                };
                self.fits(total)?;
                partial.total = Some(total);
            }
            StatusCode::RANGE_NOT_SATISFIABLE if !headers.is_empty() => {
                partial.version = None;
                return Err(DownloadFailure::retryable(
                    "the file is another than before",
                ));
            }
            status => return Err(self.refused(status, answer.headers())),
        }
        self.receive(answer, partial).await
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap) -> DownloadFailure {
        if is_retryable_download(status) {
            return DownloadFailure::Retryable {
                why: format!("the server answered {status}"),
                after: retry_after(headers),
            };
        }
        DownloadFailure::Final(DownloadError::Status {
            url: self.file.shown(),
            status: status.as_u16(),
        })
    }

    /// The file comes from its first byte on.
    async fn begin(
        &self,
        url: &Url,
        answer: &Response,
        partial: &mut Partial,
    ) -> Result<(), DownloadFailure> {
        let total = answer.content_length();
        self.fits(total.unwrap_or(0))?;
        partial
            .begin(self.name(Some(url), Some(answer.headers())))
            .await?;
        partial.total = total;
        partial.version = version(answer.headers());
        Ok(())
    }

    async fn receive(
        &self,
        mut answer: Response,
        partial: &mut Partial,
    ) -> Result<(), DownloadFailure> {
        let mut pace = Pace::new(self.settings.patience);
        loop {
            let bytes = pace.keep(answer.chunk()).await?;
            let bytes = bytes.map_err(|error| DownloadFailure::retryable(causes(&error)))?;
            let Some(bytes) = bytes else { break };
            pace.came(bytes.len());
            self.fits(partial.len.saturating_add(bytes.len() as u64))?;
            if partial.push(&bytes).await? {
                self.note(partial, partial.total);
            }
        }
        if let Some(total) = partial.total
            && total != partial.len
        {
            if partial.len > total {
                // There is nothing to go on from.
                partial.version = None;
            }
            let why = format!("{} of {total} bytes came", partial.len);
            return Err(DownloadFailure::retryable(why));
        }
        self.note(partial, Some(partial.len));
        Ok(())
    }

    fn fits(&self, bytes: u64) -> Result<(), DownloadError> {
        let limit = self.settings.max_bytes;
        if bytes > limit {
            let url = self.file.shown();
            return Err(DownloadError::TooLarge { url, limit });
        }
        Ok(())
    }

    fn note(&self, partial: &Partial, of: Option<u64>) {
        let (tally, index) = self.tally;
        tally.note(index, partial.len, of);
    }

    /// What the file is to be called.
    fn name(&self, url: Option<&Url>, headers: Option<&HeaderMap>) -> String {
        let given = self.file.name.as_deref().and_then(name::safe);
        let disposition = headers.and_then(|headers| headers.get(CONTENT_DISPOSITION));
        let disposition = disposition.map(|value| String::from_utf8_lossy(value.as_bytes()));
        given
            .or_else(|| name::of_disposition(&disposition?))
            .or_else(|| name::of_url(url?))
            .unwrap_or_else(|| name::UNNAMED.to_owned())
    }
}

/// The headers that ask for the rest of a file; none, if it has to come anew.
fn resuming(partial: &Partial) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(version) = &partial.version
        && partial.len > 0
    {
        let range = format!("bytes={}-", partial.len);
        let range = HeaderValue::from_str(&range).expect("digits are good in a header");
        headers.insert(RANGE, range);
        headers.insert(IF_RANGE, version.clone());
    }
    headers
}

/// By what a server knows a version of a file again, if it does: an entity tag that is not weak, or a date.
fn version(headers: &HeaderMap) -> Option<HeaderValue> {
    let tag = headers.get(ETAG);
    let strong = tag.filter(|tag| is_strong(tag));
    strong.or_else(|| headers.get(LAST_MODIFIED)).cloned()
}

/// Whether it is an entity tag that is not weak.
fn is_strong(version: &HeaderValue) -> bool {
    version.as_bytes().starts_with(b"\"")
}

/// The length of the whole file, if a part of it begins where ours ends, and is of the same version, as far as it says so.
fn goes_on(headers: &HeaderMap, partial: &Partial) -> Option<u64> {
    let ours = partial.version.as_ref()?;
    let known_by = if is_strong(ours) { ETAG } else { LAST_MODIFIED };
    if headers.get(known_by).is_some_and(|theirs| theirs != ours) {
        return None;
    }
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (start, rest) = range.trim().strip_prefix("bytes ")?.split_once('-')?;
    let total = match rest.split_once('/')?.1 {
        // Without a length nobody could tell whether all has come.
        "*" => partial.total?,
        total => total.parse().ok()?,
    };
    let same_total = partial.total.is_none_or(|known| known == total);
    (start.parse() == Ok(partial.len) && same_total).then_some(total)
}

/// Sees to it that a body comes no slower than it may.
struct Pace {
    patience: Duration,
    /// When the present window began, and what came in it.
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Most bytes of a window that are too few.
    fn too_few(&self) -> u64 {
        self.patience.as_secs().max(1) * NEARLY_NOTHING
    }

    async fn keep<T>(&self, next: impl Future<Output = T>) -> Result<T, DownloadFailure> {
        let next = timeout_at(self.since + self.patience, next).await;
        next.map_err(|_| {
            let (bytes, patience) = (self.bytes, self.patience);
            DownloadFailure::retryable(format!("only {bytes} bytes came within {patience:?}"))
        })
    }

    fn came(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes > self.too_few() {
            self.bytes = 0;
            self.since = Instant::now();
        }
    }
}
