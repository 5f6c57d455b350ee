//! Realtime calls: from a request to a job in flight, and from its outbox to the response.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_ENCODING, EXPECT, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use podwork_protocol::limits;
use podwork_protocol::worker::{Job, Post};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::delivery::outbox::{Final, Message, Outbox};
use crate::delivery::post::result_post;
use crate::error::handler_error::Identity;
use crate::error::{HandlerError, JobOutcome};
use crate::jobs::JobDelivery;
use crate::platform_client::Failing;
use crate::telemetry::{TakeResult, TakeTiming};
use crate::worker::Engine;

use super::answer::{Answered, json, refused};

/// The maximum number of calls that wait for a slot. Further ones are rejected with 429.
const MAX_WAITING: usize = 64;
/// The maximum time for a request body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_mins(2);
/// The maximum number of bytes of a rejected request to discard.
const MAX_DISCARDED: usize = 128 * 1024 * 1024;
/// The maximum time without any of them.
const DISCARD_PAUSE: Duration = Duration::from_secs(5);
/// The maximum time for them to arrive.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(30);

/// The queue of calls that wait for a slot.
pub(super) struct Calls {
    path: String,
    waiting: mpsc::Sender<RealtimeCall>,
}

/// The job of a call, and the channel for its result.
pub(super) struct RealtimeCall {
    job: Job,
    answer: oneshot::Sender<Result<Post, CallRefusal>>,
}

/// The reason why a call has no result.
#[derive(Debug, Clone, Copy)]
enum CallRefusal {
    /// A job with the same id is already in flight.
    Duplicate,
}

impl Calls {
    /// Creates the queue of an endpoint's calls, and its receiving end.
    pub(super) fn new(endpoint_id: &str) -> (Self, mpsc::Receiver<RealtimeCall>) {
        let (waiting, arriving) = mpsc::channel(MAX_WAITING);
        let path = format!("/{endpoint_id}/realtime");
        (Self { path, waiting }, arriving)
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Handles one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Answered> {
        let (head, mut body) = request.into_parts();
        let response = self.respond(&head, &mut body).await;
        // A client that expects `100 Continue` has not begun to send a body of known length that nobody has read.
        let waits = head.headers.contains_key(EXPECT) && body.size_hint().exact().is_some();
        if !response.status().is_success() && !waits {
            discard(&mut body).await;
        }
        response
    }

    async fn respond(&self, head: &Parts, body: &mut Incoming) -> Response<Answered> {
        let path = head.uri.path();
        if path != self.path {
            return refused(StatusCode::NOT_FOUND, &format!("no such route: {path}"));
        }
        if head.method != Method::POST {
            return refused(
                StatusCode::METHOD_NOT_ALLOWED,
                &format!("method not allowed: use POST {path}"),
            );
        }
        if let Some(encoding) = foreign_encoding(&head.headers) {
            let problem =
                format!("unsupported `Content-Encoding: {encoding}`: send the body uncompressed");
            return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, &problem);
        }
        // Reserve before the body is read, so that waiting calls take a limited amount of memory.
        let place = match self.waiting.try_reserve() {
            Ok(place) => place,
            Err(TrySendError::Full(())) => {
                let problem = format!("{MAX_WAITING} calls are waiting for a slot; retry later");
                return refused(StatusCode::TOO_MANY_REQUESTS, &problem);
            }
            Err(TrySendError::Closed(())) => return shutting_down(),
        };
        let job = match read_job(body).await {
            Ok(job) => job,
            Err((status, problem)) => return refused(status, &problem),
        };
        let id = job.id.clone();
        let (answer, answered) = oneshot::channel();
        place.send(RealtimeCall { job, answer });
        match answered.await {
            Ok(Ok(post)) => json(StatusCode::OK, &post),
            Ok(Err(CallRefusal::Duplicate)) => refused(
                StatusCode::CONFLICT,
                &format!("job {id} is already in flight"),
            ),
            Err(_) => shutting_down(),
        }
    }
}

fn shutting_down() -> Response<Answered> {
    let problem = "the worker is shutting down";
    refused(StatusCode::SERVICE_UNAVAILABLE, problem)
}

/// Returns the encoding of a body that is not sent as it is.
fn foreign_encoding(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let encodings = headers.get_all(CONTENT_ENCODING).iter();
    let mut encodings = encodings.map(|encoding| String::from_utf8_lossy(encoding.as_bytes()));
    encodings.find(|encoding| {
        let encoding = encoding.trim();
        !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity")
    })
}

/// Discards what the client still sends, up to a limit. Many clients read the response only after they have sent the
/// whole body, and the operating system resets a connection that is closed before.
async fn discard(body: &mut Incoming) {
    let discarding = async {
        let mut left = MAX_DISCARDED;
        while left > 0
            && let Ok(Some(Ok(frame))) = timeout(DISCARD_PAUSE, body.frame()).await
        {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        }
    };
    // Without the rest, the client may lose the response, but not more.
    let _ = timeout(DISCARD_TIMEOUT, discarding).await;
}

/// Reads a job from a request body.
async fn read_job(body: &mut Incoming) -> Result<Job, (StatusCode, String)> {
    let limit = limits::RUNSYNC_PAYLOAD;
    let too_large = || {
        let problem = format!("the request body exceeds the limit of {limit} bytes");
        (StatusCode::PAYLOAD_TOO_LARGE, problem)
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let read = timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await;
    let body: Bytes = match read {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(error)) => {
            let problem = format!("failed to read the request body: {error}");
            return Err((StatusCode::BAD_REQUEST, problem));
        }
        Err(_) => {
            let problem = format!("the request body did not arrive within {BODY_TIMEOUT:?}");
            return Err((StatusCode::REQUEST_TIMEOUT, problem));
        }
    };
    Job::parse(&body).map_err(|error| {
        let problem = format!("the request body is not {{\"id\": …, \"input\": …}}: {error}");
        (StatusCode::BAD_REQUEST, problem)
    })
}

/// Starts the job of each call as soon as there is a free slot, until the worker drains or its health check has failed
/// for too long. Calls that are still waiting then are rejected.
pub(super) async fn dispatch(
    engine: &Engine,
    mut arriving: mpsc::Receiver<RealtimeCall>,
) -> Result<(), Failing> {
    let drain = &engine.shutdown.drain;
    let next = async {
        loop {
            engine.jobs.free().await;
            engine.healthy().await?;
            let timer = engine.telemetry.take();
            let Some(call) = arriving.recv().await else {
                return Ok(());
            };
            // A client may reuse the id of a job that has ended.
            engine.jobs.polling();
            start(engine, call, timer.answered(TakeResult::Jobs));
        }
    };
    drain.run_until_cancelled(next).await.unwrap_or(Ok(()))
}

fn start(engine: &Engine, call: RealtimeCall, timing: TakeTiming) {
    let RealtimeCall { job, answer } = call;
    let identity = engine.identity.clone();
    let details = engine.error_details;
    let mut answer = Some(answer);
    let deliver = |outbox, job| deliver(outbox, job, answer.take(), identity, details);
    let started = engine.start(job, timing, deliver);
    if let (Err(_), Some(answer)) = (started, answer) {
        // The client may have disconnected.
        let _ = answer.send(Err(CallRefusal::Duplicate));
    }
}

/// Answers a call with the result of its job. Chunks and progress have no recipient and are dropped.
async fn deliver(
    outbox: Arc<Outbox>,
    job: JobDelivery,
    answer: Option<oneshot::Sender<Result<Post, CallRefusal>>>,
    identity: Identity,
    details: bool,
) {
    let Final { outcome, .. } = loop {
        if let Message::Final(last) = outbox.next().await {
            break last;
        }
    };
    let failure = outcome.as_ref().err();
    // Settled first, so that the client can reuse the id as soon as it has the answer.
    job.settled(failure.map_or(JobOutcome::Completed, HandlerError::outcome));
    if let Some(answer) = answer {
        let post = result_post(outcome, false, &identity, details);
        // The client may have disconnected.
        let _ = answer.send(Ok(post));
    }
}
