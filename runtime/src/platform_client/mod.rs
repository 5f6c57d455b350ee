//! The worker's calls to the platform: each answer becomes what to do next.

use std::future::Future;
use std::time::Duration;

use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use hyper::{Method, StatusCode};
use podwork_protocol::limits;
use podwork_protocol::template::Url;
use podwork_protocol::worker::{POST_CONTENT_TYPE, StopSignals, TakenJobs};

use crate::config::Remote;
use crate::error::Error;
use crate::net::http::{Answer, Body, Call, Http, retry_after};

/// Longest wait for the answer of a poll or a post: longer than any platform holds a poll open, so that it is never our
/// side that ends a poll which is about to bring a job. It is the same for both, since a deadline that comes before all
/// others costs the runtime a call of the system's.
const TIMEOUT: Duration = Duration::from_mins(2);
/// Room for what surrounds a job's input in a take's answer, in bytes.
const ENVELOPE: usize = 64 * 1024;
/// Most that is read of an answer to a post, in bytes: it says nothing.
const MAX_ACKNOWLEDGEMENT: usize = 64 * 1024;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Most characters of what the platform is told of a failing check.
const MAX_REASON: usize = 256;

/// The calls of one worker.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: Http,
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
        body: Body,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Posts a chunk; `key` is the same for each try of one chunk, and no other's.
    fn post_chunk(
        &self,
        job_id: &str,
        key: &str,
        body: Body,
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
    /// There was no answer.
    fn unanswered(why: String) -> Self {
        Self::Passing { why, after: None }
    }

    /// Reads a status other than success.
    fn of(answer: &Answer) -> Self {
        let status = answer.status;
        let after = retry_after(&answer.headers);
        let explanation = String::from_utf8_lossy(&answer.body).trim().to_owned();
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
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(USER_AGENT, remote.user_agent.clone());
        if let Some(authorization) = &remote.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let http = Http::new(headers, remote.uses_tls())?;
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
        let limit = wanted.saturating_mul(limits::RUNSYNC_PAYLOAD + ENVELOPE);
        let answer = self.poll(url, limit).await?;
        match answer.status {
            // 400 is what a platform with FlashBoot answers to a worker it has put to sleep.
            StatusCode::NO_CONTENT | StatusCode::BAD_REQUEST => return Ok(Taken::Nothing),
            StatusCode::OK => {}
            _ => return Err(Trouble::of(&answer)),
        }
        if answer.body.is_empty() {
            return Ok(Taken::Nothing);
        }
        TakenJobs::parse(&answer.body)
            .map(Taken::Jobs)
            .map_err(|error| Trouble::Passing {
                why: format!("the answer is no job: {error}"),
                after: None,
            })
    }

    /// Asks which jobs to stop; the platform may hold the call open until there is one.
    pub(crate) async fn stop_signals(&self, url: &Url) -> Result<StopSignals, Trouble> {
        let answer = self.poll(url.clone(), limits::CHUNK).await?;
        match answer.status {
            StatusCode::NO_CONTENT => return Ok(StopSignals::default()),
            StatusCode::OK => {}
            _ => return Err(Trouble::of(&answer)),
        }
        serde_json::from_slice(&answer.body).map_err(|error| Trouble::Passing {
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
        body: Body,
    ) -> Result<(), Trouble> {
        let mut headers = HeaderMap::with_capacity(3);
        // An id that cannot stand in a header is said in the URL all the same.
        let mut put = |name, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        put(REQUEST_ID, job_id);
        if let Some(key) = key {
            put(IDEMPOTENCY_KEY, key);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(POST_CONTENT_TYPE));
        let call = Call {
            method: Method::POST,
            url: url.with("isStream", if streams { "true" } else { "false" }),
            headers,
            body,
            timeout: TIMEOUT,
            limit: MAX_ACKNOWLEDGEMENT,
        };
        success(&self.http.call(call).await.map_err(Trouble::unanswered)?)
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
        let url = url.with("runpod_version", crate::version::VERSION);
        let none = HeaderMap::new();
        success(&self.get(url, none, timeout, MAX_ACKNOWLEDGEMENT).await?)
    }

    async fn poll(&self, url: Url, limit: usize) -> Result<Answer, Trouble> {
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
        self.get(url, headers, TIMEOUT, limit).await
    }

    async fn get(
        &self,
        url: Url,
        headers: HeaderMap,
        timeout: Duration,
        limit: usize,
    ) -> Result<Answer, Trouble> {
        let call = Call {
            method: Method::GET,
            url,
            headers,
            body: Body::default(),
            timeout,
            limit,
        };
        self.http.call(call).await.map_err(Trouble::unanswered)
    }
}

fn success(answer: &Answer) -> Result<(), Trouble> {
    if answer.status.is_success() {
        Ok(())
    } else {
        Err(Trouble::of(answer))
    }
}

impl Posts for Api {
    async fn post_result(&self, job_id: &str, streams: bool, body: Body) -> Result<(), Trouble> {
        let url = self.remote.done.job(job_id);
        self.post(url, job_id, streams, None, body).await
    }

    async fn post_chunk(&self, job_id: &str, key: &str, body: Body) -> Result<(), Trouble> {
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
}
