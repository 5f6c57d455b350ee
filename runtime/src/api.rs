//! The worker's calls to the platform: each answer becomes what to do next.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use podwork_protocol::limits;
use podwork_protocol::template::Url;
use podwork_protocol::worker::{
    IDEMPOTENCY_KEY_HEADER, POST_CONTENT_TYPE, REQUEST_ID_HEADER, StopSignals, TakenJobs,
};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, Response, StatusCode};

use crate::config::Remote;
use crate::error::Error;

/// Longest wait for a take's or stop's answer: longer than any platform holds a poll open, so that it is never our
/// side that ends a poll which is about to bring a job.
const POLL_TIMEOUT: Duration = Duration::from_mins(2);
const POST_TIMEOUT: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for what surrounds a job's input in a take's answer, in bytes.
const ENVELOPE: usize = 64 * 1024;
/// Most that is set aside for a body before it comes, in bytes.
const MAX_PREALLOCATED: usize = limits::RUNSYNC_PAYLOAD + ENVELOPE;
/// Most that is read of an answer that only explains a refusal, in bytes.
const MAX_EXPLANATION: usize = 1024;
/// Most characters of what the platform is told of a failing check.
const MAX_REASON: usize = 256;

/// The HTTP client of one worker.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: Client,
    remote: Remote,
}

/// What keeps the worker from its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failing {
    /// The name of the check that says so.
    pub(crate) check: String,
    pub(crate) reason: String,
}

/// Takes a job's posts: the platform.
pub(crate) trait Posts {
    /// Posts a result or progress.
    fn post_result(
        &self,
        job_id: &str,
        streams: bool,
        body: Bytes,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Posts a chunk; `key` is the same for each try of one chunk, and no other's.
    fn post_chunk(
        &self,
        job_id: &str,
        key: &str,
        body: Bytes,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;
}

/// What a take brought.
#[derive(Debug)]
pub(crate) enum Taken {
    Jobs(TakenJobs),
    Nothing,
}

/// Why a call did not succeed, and whether trying again can help.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The same call may succeed later, at the earliest after `after`.
    Passing {
        why: String,
        after: Option<Duration>,
    },
    /// The platform will never accept this call.
    Refused { status: StatusCode, why: String },
}

impl Trouble {
    fn unreachable(error: &reqwest::Error) -> Self {
        let mut why = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(deeper) = cause {
            why = format!("{why}: {deeper}");
            cause = deeper.source();
        }
        Self::Passing { why, after: None }
    }

    /// Reads a status other than success.
    async fn of(response: Response) -> Self {
        let status = response.status();
        let after = retry_after(response.headers());
        let explanation = read_body(response, MAX_EXPLANATION)
            .await
            .unwrap_or_default();
        let explanation = String::from_utf8_lossy(&explanation).trim().to_owned();
        let why = if explanation.is_empty() {
            status.to_string()
        } else {
            format!("{status}: {explanation}")
        };
        if is_passing(status) {
            Self::Passing { why, after }
        } else {
            Self::Refused { status, why }
        }
    }
}

/// Whether the same call may succeed later.
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    ) || !status.is_client_error()
}

impl Api {
    pub(crate) fn new(remote: Remote) -> Result<Self, Error> {
        // An error means that the program has chosen a provider itself.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, remote.user_agent.clone());
        if let Some(authorization) = &remote.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let mut builder = Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::limited(3))
            // As the official worker: the platform is reached directly.
            .no_proxy();
        if !remote.uses_tls() {
            // Certificates need not be there, nor be loaded, for plain HTTP.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(Error::HttpClient)?;
        Ok(Self { http, remote })
    }

    pub(crate) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Takes up to `wanted` jobs; the platform may hold the call open until there is one.
    pub(crate) async fn take(&self, wanted: usize, holds_jobs: bool) -> Result<Taken, Trouble> {
        let url = if wanted > 1 {
            self.remote
                .take
                .batch()
                .with("batch_size", &wanted.to_string())
        } else {
            self.remote.take.url()
        };
        let url = url.with("job_in_progress", if holds_jobs { "1" } else { "0" });
        let response = self.get(&url).timeout(POLL_TIMEOUT).send().await;
        let response = response.map_err(|error| Trouble::unreachable(&error))?;
        match response.status() {
            // 400 is what a platform with FlashBoot answers to a worker it has put to sleep.
            StatusCode::NO_CONTENT | StatusCode::BAD_REQUEST => return Ok(Taken::Nothing),
            StatusCode::OK => {}
            _ => return Err(Trouble::of(response).await),
        }
        let limit = wanted.saturating_mul(limits::RUNSYNC_PAYLOAD + ENVELOPE);
        let body = read_body(response, limit).await?;
        if body.is_empty() {
            return Ok(Taken::Nothing);
        }
        TakenJobs::parse(&body)
            .map(Taken::Jobs)
            .map_err(|error| Trouble::Passing {
                why: format!("the answer is no job: {error}"),
                after: None,
            })
    }

    /// Asks which jobs to stop; the platform may hold the call open until there is one.
    pub(crate) async fn stop_signals(&self, url: &Url) -> Result<StopSignals, Trouble> {
        let response = self.get(url).timeout(POLL_TIMEOUT).send().await;
        let response = response.map_err(|error| Trouble::unreachable(&error))?;
        match response.status() {
            StatusCode::NO_CONTENT => return Ok(StopSignals::default()),
            StatusCode::OK => {}
            _ => return Err(Trouble::of(response).await),
        }
        let body = read_body(response, limits::CHUNK).await?;
        serde_json::from_slice(&body).map_err(|error| Trouble::Passing {
            why: format!("the answer is no list of jobs to stop: {error}"),
            after: None,
        })
    }

    async fn post(
        &self,
        url: Url,
        job_id: &str,
        streams: bool,
        key: Option<&str>,
        body: Bytes,
    ) -> Result<(), Trouble> {
        let url = url.with("isStream", if streams { "true" } else { "false" });
        let mut request = self
            .http
            .post(url.as_str())
            .header(REQUEST_ID_HEADER, job_id)
            .header(CONTENT_TYPE, POST_CONTENT_TYPE)
            .timeout(POST_TIMEOUT);
        if let Some(key) = key {
            request = request.header(IDEMPOTENCY_KEY_HEADER, key);
        }
        let response = request
            .body(body)
            .send()
            .await
            .map_err(|error| Trouble::unreachable(&error))?;
        if response.status().is_success() {
            // Read to its end, so that the connection serves the next call.
            let _ = read_body(response, MAX_EXPLANATION).await;
            return Ok(());
        }
        Err(Trouble::of(response).await)
    }

    /// Sends a heartbeat with the ids of the jobs held, and what is wrong with the worker, if anything is.
    pub(crate) async fn ping(
        &self,
        ids: &[String],
        failing: Option<&Failing>,
        timeout: Duration,
    ) -> Result<(), Trouble> {
        let Some(ping) = &self.remote.ping else {
            return Ok(());
        };
        let mut url = ping.url();
        if !ids.is_empty() {
            url = url.with("job_id", &ids.join(","));
        }
        if let Some(Failing { check, reason }) = failing {
            let reason: String = reason.chars().take(MAX_REASON).collect();
            url = url
                .with("status", "unhealthy")
                .with("check", check)
                .with("reason", &reason);
        }
        let url = url.with("runpod_version", crate::VERSION);
        let ping = self.http.get(url.as_str()).timeout(timeout);
        let response = ping
            .send()
            .await
            .map_err(|error| Trouble::unreachable(&error))?;
        if !response.status().is_success() {
            return Err(Trouble::of(response).await);
        }
        let _ = read_body(response, MAX_EXPLANATION).await;
        Ok(())
    }

    fn get(&self, url: &Url) -> reqwest::RequestBuilder {
        self.http
            .get(url.as_str())
            .header(CONTENT_TYPE, "application/json")
    }
}

impl Posts for Api {
    async fn post_result(&self, job_id: &str, streams: bool, body: Bytes) -> Result<(), Trouble> {
        let url = self.remote.done.job(job_id);
        self.post(url, job_id, streams, None, body).await
    }

    async fn post_chunk(&self, job_id: &str, key: &str, body: Bytes) -> Result<(), Trouble> {
        // Only a worker whose handler streams posts chunks, and such a worker does not start without this URL.
        let Some(stream) = &self.remote.stream else {
            return Err(Trouble::Refused {
                status: StatusCode::NOT_FOUND,
                why: "no stream URL is configured".to_owned(),
            });
        };
        let url = stream.job(job_id);
        self.post(url, job_id, false, Some(key), body).await
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// Reads a body of at most `limit` bytes.
async fn read_body(mut response: Response, limit: usize) -> Result<Vec<u8>, Trouble> {
    // What is announced is only believed so far: it may be anything.
    let announced = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
    let mut body = Vec::with_capacity(announced.min(limit).min(MAX_PREALLOCATED));
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| Trouble::unreachable(&error))?
    {
        if body.len() + part.len() > limit {
            return Err(Trouble::Passing {
                why: format!("the answer is over {limit} bytes"),
                after: None,
            });
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again() {
        for status in [408, 425, 429, 500, 502, 503, 504, 302] {
            assert!(
                is_passing(StatusCode::from_u16(status).unwrap()),
                "{status}"
            );
        }
        for status in [400, 401, 403, 404, 409, 410, 413, 422] {
            assert!(
                !is_passing(StatusCode::from_u16(status).unwrap()),
                "{status}"
            );
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let headers =
            |value: &'static str| HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        assert_eq!(retry_after(&headers("7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers("Wed, 21 Oct 2026 07:28:00 GMT")), None);
    }
}
