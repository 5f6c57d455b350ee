//! The calls of the wire: conversion into HTTP requests, and parsing of the responses.

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use podwork_protocol::limits;
use podwork_protocol::template::{Url, UrlTemplate};
use podwork_protocol::worker::{POST_CONTENT_TYPE, StopSignals, TakenJobs};

use super::body::Body;
use super::http::{WireAnswer, WireRequest};
use super::{CallError, Failing};

/// The timeout of a poll or a post. It is longer than any platform holds a poll open, so the worker never aborts a poll
/// that is about to return a job. Polls and posts share one value, since a deadline earlier than all others costs the
/// async runtime a system call.
const TIMEOUT: Duration = Duration::from_mins(2);
/// The allowance for everything but the input in a job of a poll's response, in bytes.
const ENVELOPE: usize = 64 * 1024;
/// The maximum size of the response to a post or a heartbeat, in bytes. Its content is not used.
const MAX_ACKNOWLEDGEMENT: usize = 64 * 1024;
/// The maximum length of the reason for a failing check that a heartbeat reports, in characters.
const MAX_REASON: usize = 256;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Polls for up to `wanted` jobs. The platform may hold the call open until there is one.
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

    pub(super) fn read(answer: &WireAnswer) -> Result<TakenJobs, CallError> {
        match answer.status {
            // A platform with FlashBoot answers 400 to a worker that it has put to sleep.
            StatusCode::NO_CONTENT | StatusCode::BAD_REQUEST => return Ok(TakenJobs::default()),
            // A proxy may have changed the status. The job counts.
            StatusCode::OK
            | StatusCode::CREATED
            | StatusCode::ACCEPTED
            | StatusCode::NON_AUTHORITATIVE_INFORMATION
            | StatusCode::PARTIAL_CONTENT => {}
            _ => return Err(CallError::of(answer)),
        }
        TakenJobs::parse(&answer.body).map_err(|error| {
            CallError::unanswered(format!(
                "the response is not a job or a list of jobs: {error}"
            ))
        })
    }
}

/// Polls for the ids of jobs to cancel. The platform may hold the call open until there is one.
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
        StopSignals::parse(&answer.body).map_err(|error| {
            CallError::unanswered(format!("invalid list of jobs to cancel: {error}"))
        })
    }
}

/// Posts a job's result or its latest progress. On the wire, only their bodies differ.
#[derive(Debug)]
pub(super) struct ResultRequest<'a> {
    pub(super) job_id: &'a str,
    /// This is the result of a streaming job. Always `false` for progress.
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
    /// The idempotency key: unique to the chunk, and the same for all attempts to post it.
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

/// Sends a heartbeat: the ids of the jobs in flight and, if the worker is unhealthy, the reason.
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

/// Reads the response to a post or a heartbeat. Only its status matters.
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

/// Adds a header. Skips an id that is not a valid header value, since the URL contains it as well.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
