//! The worker's calls to the platform, and the interpretation of its responses.

mod body;
mod connect;
mod deadline;
mod encoding;
mod http;
mod requests;

use std::future::Future;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use podwork_protocol::template::Url;
use podwork_protocol::worker::{StopSignals, TakenJobs};

use crate::config::Remote;
use crate::error::Error;
use crate::net::http::{is_retryable_call, retry_after};
use crate::net::proxy::Proxies;
use crate::threads::guarded;

pub(crate) use body::Body;
use http::{WireAnswer, WireClient, WireRequest};
use requests::{ChunkRequest, PingRequest, ResultRequest, StopRequest, TakeRequest, accepted};

/// A client for all calls of one worker.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    http: WireClient,
    /// The client for heartbeats. Like the official worker, it honours proxies, unlike the one for polls and posts.
    pings: WireClient,
    remote: Remote,
}

/// The reason why the worker is unhealthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failing {
    /// The name of the failing check.
    pub(crate) check: String,
    pub(crate) reason: String,
}

/// The recipient of a job's posts: the platform, or a substitute in tests.
pub(crate) trait Posts {
    /// Posts a result or progress.
    fn post_result(
        &self,
        job_id: &str,
        streams: bool,
        body: Body,
    ) -> impl Future<Output = Result<(), CallError>> + Send;

    /// Posts a chunk. `key` is unique to the chunk, and the same for all attempts to post it.
    fn post_chunk(
        &self,
        job_id: &str,
        key: &str,
        body: Body,
    ) -> impl Future<Output = Result<(), CallError>> + Send;
}

/// The reason why a call failed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The same call may succeed later, but not before `after` has passed.
    Retryable {
        why: String,
        after: Option<Duration>,
    },
    /// The platform will never accept this call.
    Refused { status: StatusCode, why: String },
}

impl CallError {
    /// Creates the error of a call without a response, or with one that cannot be parsed.
    fn unanswered(why: String) -> Self {
        Self::Retryable { why, after: None }
    }

    /// Creates the error for a response whose status is not a success.
    fn of(answer: &WireAnswer) -> Self {
        let status = answer.status;
        let explanation = String::from_utf8_lossy(&answer.body).trim().to_owned();
        let why = if explanation.is_empty() {
            status.to_string()
        } else {
            format!("{status}: {explanation}")
        };
        if is_retryable_call(status) {
            let after = retry_after(&answer.headers);
            Self::Retryable { why, after }
        } else {
            Self::Refused { status, why }
        }
    }
}

impl Api {
    pub(crate) fn new(remote: Remote) -> Result<Self, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, remote.user_agent.clone());
        if let Some(authorization) = &remote.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let tls = remote.uses_tls();
        let http = WireClient::new(headers.clone(), tls, None)?;
        let pings = match Proxies::of_process().matcher() {
            None => http.clone(),
            proxies => WireClient::new(headers, tls, proxies)?,
        };
        Ok(Self {
            http,
            pings,
            remote,
        })
    }

    pub(crate) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Closes the idle connections, so that further calls use new ones.
    pub(crate) fn reconnect(&self) {
        self.http.reconnect();
        self.pings.reconnect();
    }

    /// Polls for up to `wanted` jobs. The platform may hold the call open until there is one.
    pub(crate) async fn take(
        &self,
        wanted: usize,
        holds_jobs: bool,
    ) -> Result<TakenJobs, CallError> {
        let request = TakeRequest { wanted, holds_jobs };
        let answer = call(&self.http, request.into_http(&self.remote.take)).await?;
        TakeRequest::read(&answer)
    }

    /// Polls for the ids of jobs to cancel. The platform may hold the call open until there is one.
    pub(crate) async fn stop_signals(&self, url: &Url) -> Result<StopSignals, CallError> {
        let request = StopRequest { url: url.clone() };
        StopRequest::read(&call(&self.http, request.into_http()).await?)
    }

    /// Sends a heartbeat with the ids of the jobs in flight and, if the worker is unhealthy, the reason.
    pub(crate) async fn ping(
        &self,
        job_ids: &[String],
        failing: Option<&Failing>,
        timeout: Duration,
    ) -> Result<(), CallError> {
        let Some(ping) = &self.remote.ping else {
            return Ok(());
        };
        let request = PingRequest {
            job_ids,
            failing,
            timeout,
        };
        accepted(&call(&self.pings, request.into_http(ping)).await?)
    }
}

/// Makes a call. A panic of the network stack is an error that may pass.
async fn call(client: &WireClient, request: WireRequest) -> Result<WireAnswer, CallError> {
    let answer = guarded(client.call(request)).await;
    answer.flatten().map_err(CallError::unanswered)
}

impl Posts for Api {
    async fn post_result(&self, job_id: &str, streams: bool, body: Body) -> Result<(), CallError> {
        let request = ResultRequest {
            job_id,
            streams,
            body,
        };
        accepted(&call(&self.http, request.into_http(&self.remote.done)).await?)
    }

    async fn post_chunk(&self, job_id: &str, key: &str, body: Body) -> Result<(), CallError> {
        // Only a streaming handler yields chunks, and its worker does not start without this URL.
        let Some(stream) = &self.remote.stream else {
            return Err(CallError::Refused {
                status: StatusCode::NOT_FOUND,
                why: "no stream URL is configured".to_owned(),
            });
        };
        let request = ChunkRequest { job_id, key, body };
        accepted(&call(&self.http, request.into_http(stream)).await?)
    }
}
