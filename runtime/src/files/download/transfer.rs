//! The transfer of one download, with retries.

use std::time::Duration;

use data_url::DataUrl;
use reqwest::header::{
    CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE,
    LAST_MODIFIED, RANGE,
};
use reqwest::{Response, StatusCode};
use tempfile::TempPath;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use url::Url;

use crate::handler::Context;
use crate::net::backoff::Backoff;
use crate::net::client::causes;
use crate::net::http::{is_retryable_download, retry_after};

use super::address::FileLocation;
use super::client::{DownloadFailure, FileClient};
use super::error::DownloadError;
use super::name;
use super::partial::Partial;
use super::remote_file::RemoteFile;
use super::speed::MinimumSpeed;
use super::tally::Tally;

/// The maximum number of attempts of one download.
const TRIES: usize = 5;

/// One download.
pub(super) struct Download<'a> {
    pub(super) cx: &'a Context,
    pub(super) max_bytes: u64,
    pub(super) idle_timeout: Duration,
    pub(super) file: &'a RemoteFile,
    pub(super) client: &'a FileClient,
    /// The progress of all downloads, and the index of this one.
    pub(super) tally: (&'a Tally<'a>, usize),
    pub(super) making: &'a TaskTracker,
}

impl Download<'_> {
    pub(super) async fn run(self) -> Result<TempPath, DownloadError> {
        let mut partial = Partial::new(self.cx, self.making);
        match &self.file.location {
            FileLocation::Here(url) => self.decode(url, &mut partial).await?,
            FileLocation::At(url) => self.fetch(url, &mut partial).await?,
        }
        let (sum, path) = partial.end().await.map_err(DownloadError::disk)?;
        match self.file.sha256 {
            Some(expected) if expected != sum => Err(DownloadError::Checksum {
                url: self.file.shown(),
                expected: expected.to_string(),
                got: sum.to_string(),
            }),
            _ => Ok(path),
        }
    }

    /// Decodes the content of a data URL.
    async fn decode(&self, url: &str, partial: &mut Partial) -> Result<(), DownloadError> {
        let invalid = |problem: String| DownloadError::Url {
            url: self.file.shown(),
            problem,
        };
        let data = DataUrl::process(url).map_err(|error| invalid(error.to_string()))?;
        let decoded = data.decode_to_vec();
        let (bytes, _) = decoded.map_err(|error| invalid(error.to_string()))?;
        self.fits(bytes.len() as u64)?;
        let begun = partial.begin(self.name(None, None)).await;
        begun.map_err(DownloadError::disk)?;
        let pushed = partial.push(&bytes).await;
        pushed.map_err(DownloadError::disk)?;
        self.note(partial, Some(partial.len));
        Ok(())
    }

    /// Downloads from a URL, with retries.
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
                url = %self.file.shown(),
                attempt = tries,
                offset = partial.len,
                error = %why,
                "Download failed; retrying."
            );
            tokio::time::sleep(pauses.next(after)).await;
        }
    }

    /// Makes one attempt, which resumes where the last one broke off if possible.
    async fn attempt(&self, url: &Url, partial: &mut Partial) -> Result<(), DownloadFailure> {
        let idle_timeout = self.idle_timeout;
        let headers = resuming(partial);
        let own = &self.file.headers;
        let answer = self.client.get(url, own, &headers, idle_timeout).await?;
        match answer.status() {
            StatusCode::OK => self.begin(url, &answer, partial).await?,
            StatusCode::PARTIAL_CONTENT if !headers.is_empty() => {
                let Some(total) = goes_on(answer.headers(), partial) else {
                    partial.version = None;
                    return Err(DownloadFailure::retryable(
                        "the server sent a different range of the file than requested",
                    ));
                };
                self.fits(total)?;
                partial.total = Some(total);
            }
            StatusCode::RANGE_NOT_SATISFIABLE if !headers.is_empty() => {
                partial.version = None;
                return Err(DownloadFailure::retryable(
                    "the file on the server has changed",
                ));
            }
            status => return Err(self.refused(status, answer.headers())),
        }
        self.receive(answer, partial).await
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap) -> DownloadFailure {
        if is_retryable_download(status) {
            return DownloadFailure::Retryable {
                why: format!("the server responded with status {status}"),
                after: retry_after(headers),
            };
        }
        DownloadFailure::Final(DownloadError::Status {
            url: self.file.shown(),
            status: status.as_u16(),
        })
    }

    /// Begins to receive the file at its first byte.
    async fn begin(
        &self,
        url: &Url,
        answer: &Response,
        partial: &mut Partial,
    ) -> Result<(), DownloadFailure> {
        if let Some(encoding) = answer.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            let url = self.file.shown();
            warn!(
                url,
                ?encoding,
                "The server compressed the file although not asked to; storing it compressed."
            );
        }
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
        let mut speed = MinimumSpeed::new(self.idle_timeout);
        loop {
            let bytes = speed.keep(answer.chunk()).await?;
            let bytes = bytes.map_err(|error| DownloadFailure::retryable(causes(&error)))?;
            let Some(bytes) = bytes else { break };
            speed.came(bytes.len());
            self.fits(partial.len.saturating_add(bytes.len() as u64))?;
            if partial.push(&bytes).await? {
                self.note(partial, partial.total);
            }
        }
        if let Some(total) = partial.total
            && total != partial.len
        {
            if partial.len > total {
                // Too many bytes were received, so the next attempt cannot resume.
                partial.version = None;
            }
            let why = format!("received {} of {total} bytes", partial.len);
            return Err(DownloadFailure::retryable(why));
        }
        self.note(partial, Some(partial.len));
        Ok(())
    }

    fn fits(&self, bytes: u64) -> Result<(), DownloadError> {
        let limit = self.max_bytes;
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

    /// Returns the name for the file.
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

/// Returns the headers that request the rest of a file; empty if the file must be downloaded from its start.
fn resuming(partial: &Partial) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(version) = &partial.version
        && partial.len > 0
    {
        let range = format!("bytes={}-", partial.len);
        let range = HeaderValue::from_str(&range).expect("digits are valid in a header");
        headers.insert(RANGE, range);
        headers.insert(IF_RANGE, version.clone());
    }
    headers
}

/// Returns the validator that identifies a version of a file, if there is one: a strong entity tag, or a date.
fn version(headers: &HeaderMap) -> Option<HeaderValue> {
    let tag = headers.get(ETAG);
    let strong = tag.filter(|tag| is_strong(tag));
    strong.or_else(|| headers.get(LAST_MODIFIED)).cloned()
}

/// Returns whether a validator is a strong entity tag.
fn is_strong(version: &HeaderValue) -> bool {
    version.as_bytes().starts_with(b"\"")
}

/// Returns the size of the complete file, if the response continues where the received part ends, and does not name
/// another version of the file.
fn goes_on(headers: &HeaderMap, partial: &Partial) -> Option<u64> {
    let ours = partial.version.as_ref()?;
    let known_by = if is_strong(ours) { ETAG } else { LAST_MODIFIED };
    if headers.get(known_by).is_some_and(|theirs| theirs != ours) {
        return None;
    }
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (start, rest) = range.trim().strip_prefix("bytes ")?.split_once('-')?;
    let total = match rest.split_once('/')?.1 {
        // Without a total size, a truncated file would not be detected.
        "*" => partial.total?,
        total => total.parse().ok()?,
    };
    let same_total = partial.total.is_none_or(|known| known == total);
    (start.parse() == Ok(partial.len) && same_total).then_some(total)
}
