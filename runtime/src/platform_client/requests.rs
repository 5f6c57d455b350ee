//! Each call of the wire: how it becomes an HTTP request, and what its answer says.

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use podwork_protocol::limits;
use podwork_protocol::template::{Url, UrlTemplate};
use podwork_protocol::worker::{POST_CONTENT_TYPE, StopSignals, TakenJobs};

use super::body::Body;
use super::http::{WireAnswer, WireRequest};
use super::{CallError, Failing, Taken};

/// Longest wait for the answer of a poll or a post: longer than any platform holds a poll open, so that it is never our
/// side that ends a poll which is about to bring a job. It is the same for both, since a deadline that comes before all
/// others costs the runtime a call of the system's.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Room for what surrounds a job's input in a take's answer, in bytes.
const ENVELOPE: usize = 64 * 1024;
/// Most that is read of an answer to a post or a ping, in bytes: it says nothing.
const MAX_ACKNOWLEDGEMENT: usize = 64 * 1024;
/// Most characters that the platform is told about a failing check.
const MAX_REASON: usize = 256;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Takes up to `wanted` jobs; the platform may hold the call open until there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct TakeRequest {
    pub(super) wanted: usize,
    pub(super) holds_jobs: bool,
}

impl TakeRequest {
    pub(super) fn into_http(self, take: &UrlTemplate) -> WireRequest {
        let url = if self.wanted > 1 {
            take.batch().with("batch_size", &self.wanted.to_string())
        } else {
            take.url()
        };
        let in_progress = if self.holds_jobs { "1" } else { "0" };
        let limit = self
            .wanted
            .saturating_mul(limits::RUNSYNC_PAYLOAD + ENVELOPE);
        poll(url.with("job_in_progress", in_progress), limit)
    }

    pub(super) fn read(answer: &WireAnswer) -> Result<Taken, CallError> {
        match answer.status {
            // 400 is what a platform with FlashBoot answers to a worker it has put to sleep.
            StatusCode::NO_CONTENT | StatusCode::BAD_REQUEST => return Ok(Taken::Nothing),
            StatusCode::OK => {}
            _ => return Err(CallError::of(answer)),
        }
        if answer.body.is_empty() {
            return Ok(Taken::Nothing);
        }
        TakenJobs::parse(&answer.body)
            .map(Taken::Jobs)
            .map_err(|error| CallError::unanswered(format!("the answer is no job: {error}")))
    }
}

/// Asks which jobs to stop; the platform may hold the call open until there is one.
#[derive(Debug, Clone)]
pub(super) struct StopRequest {
    pub(super) url: Url,
}

impl StopRequest {
    pub(super) fn into_http(self) -> WireRequest {
        poll(self.url, limits::CHUNK)
    }

    pub(super) fn read(answer: &WireAnswer) -> Result<StopSignals, CallError> {
        match answer.status {
            StatusCode::NO_CONTENT => return Ok(StopSignals::default()),
            StatusCode::OK => {}
            _ => return Err(CallError::of(answer)),
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            CallError::unanswered(format!("the answer is no list of jobs to stop: {error}"))
        })
    }
}

/// Posts a job's result, or its latest progress: on the wire they differ by their bodies alone.
#[derive(Debug)]
pub(super) struct ResultRequest<'a> {
    pub(super) job_id: &'a str,
    /// Whether this is the result of a job that streams. Progress never is.
    pub(super) streams: bool,
    pub(super) body: Body,
}

impl ResultRequest<'_> {
    pub(super) fn into_http(self, done: &UrlTemplate) -> WireRequest {
        let is_stream = if self.streams { "true" } else { "false" };
        let url = done.job(self.job_id).with("isStream", is_stream);
        post(url, self.job_id, self.body)
    }
}

/// Posts a chunk of a job's output.
#[derive(Debug)]
pub(super) struct ChunkRequest<'a> {
    pub(super) job_id: &'a str,
    /// The same for each try of one chunk, and no other's.
    pub(super) key: &'a str,
    pub(super) body: Body,
}

impl ChunkRequest<'_> {
    pub(super) fn into_http(self, stream: &UrlTemplate) -> WireRequest {
        let url = stream.job(self.job_id).with("isStream", "false");
        let mut request = post(url, self.job_id, self.body);
        put(&mut request.headers, IDEMPOTENCY_KEY, self.key);
        request
    }
}

/// Sends a heartbeat: the ids of the jobs in flight, and why the worker is unhealthy, if it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct PingRequest<'a> {
    pub(super) job_ids: &'a [String],
    pub(super) failing: Option<&'a Failing>,
    pub(super) timeout: Duration,
}

impl PingRequest<'_> {
    pub(super) fn into_http(self, ping: &UrlTemplate) -> WireRequest {
        let mut url = ping.url();
        if !self.job_ids.is_empty() {
            url = url.with("job_id", &self.job_ids.join(","));
        }
        if let Some(Failing { check, reason }) = self.failing {
            let reason: String = reason.chars().take(MAX_REASON).collect();
            url = url
                .with("status", "unhealthy")
                .with("check", check)
                .with("reason", &reason);
        }
        WireRequest {
            method: Method::GET,
            url: url.with("runpod_version", crate::version::VERSION),
            headers: HeaderMap::new(),
            body: Body::default(),
            timeout: self.timeout,
            limit: MAX_ACKNOWLEDGEMENT,
        }
    }
}

/// Reads the answer to a post or a ping, which says nothing but whether it was accepted.
pub(super) fn accepted(answer: &WireAnswer) -> Result<(), CallError> {
    if answer.status.is_success() {
        Ok(())
    } else {
        Err(CallError::of(answer))
    }
}

fn poll(url: Url, limit: usize) -> WireRequest {
    WireRequest {
        method: Method::GET,
        url,
        headers: HeaderMap::from_iter([(CONTENT_TYPE, JSON)]),
        body: Body::default(),
        timeout: TIMEOUT,
        limit,
    }
}

fn post(url: Url, job_id: &str, body: Body) -> WireRequest {
    let mut headers = HeaderMap::with_capacity(3);
    put(&mut headers, REQUEST_ID, job_id);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(POST_CONTENT_TYPE));
    WireRequest {
        method: Method::POST,
        url,
        headers,
        body,
        timeout: TIMEOUT,
        limit: MAX_ACKNOWLEDGEMENT,
    }
}

/// Adds a header. An id that no header can carry is left out: the URL has it all the same.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
