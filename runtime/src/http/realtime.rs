//! Realtime calls: from a request to a job in flight, and from its outbox to the response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
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
        let path = request.uri().path();
        if path != self.path {
            return refused(StatusCode::NOT_FOUND, &format!("no such route: {path}"));
        }
        if request.method() != Method::POST {
            return refused(
                StatusCode::METHOD_NOT_ALLOWED,
                &format!("method not allowed: use POST {path}"),
            );
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
        let job = match read_job(request.into_body()).await {
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

/// Reads a job from a request body.
async fn read_job(body: Incoming) -> Result<Job, (StatusCode, String)> {
    let limit = limits::RUNSYNC_PAYLOAD;
    let read = timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await;
    let body: Bytes = match read {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let problem = format!("the request body exceeds the limit of {limit} bytes");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, problem));
        }
        Ok(Err(error)) => {
            let problem = format!("failed to read the request body: {error}");
            return Err((StatusCode::BAD_REQUEST, problem));
        }
        Err(_) => {
            let problem = format!("the request body did not arrive within {BODY_TIMEOUT:?}");
            return Err((StatusCode::REQUEST_TIMEOUT, problem));
        }
    };
    serde_json::from_slice(&body).map_err(|error| {
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
