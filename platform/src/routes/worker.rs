//! The worker API: take, stop, done, stream, ping.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use podwork_protocol::worker::{IDEMPOTENCY_KEY_HEADER, Post, StopSignals};
use podwork_protocol::{JobStatus, limits};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::body::{json_or_undo, object, read};
use super::extract::{Path, Query, Shared};
use super::failure::{Answer, Failure};
use crate::answers::add_job;
use crate::endpoint::NewResult;
use crate::endpoint_handle::{EndpointHandle, in_background};
use crate::engine::Id;
use crate::json_text::JsonText;
use crate::registry::Registry;
use crate::run_request::payload;
use crate::store::Stored;

/// The size allowed for the rest of a post besides its output, in bytes.
const ENVELOPE: usize = 64 * 1024;
/// The maximum length of a worker's id, in bytes.
const LONGEST_ID: usize = 256;
/// The maximum number of jobs that one take hands out.
const MOST_JOBS: usize = 1000;

#[derive(Debug, Deserialize)]
pub(super) struct WorkerPath {
    endpoint: String,
    #[serde(deserialize_with = "worker_id")]
    worker: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct WorkerJobPath {
    endpoint: String,
    #[serde(deserialize_with = "worker_id")]
    worker: String,
    job: String,
}

/// Reads the id of a worker, which the platform keeps and shows.
fn worker_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    if id.len() > LONGEST_ID || id.chars().any(char::is_control) {
        return Err(D::Error::custom(format_args!(
            "invalid worker id: use at most {LONGEST_ID} bytes, and no control characters"
        )));
    }
    Ok(id)
}

#[derive(Debug, Deserialize)]
pub(super) struct BatchQuery {
    batch_size: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Ping {
    job_id: Option<String>,
    status: Option<String>,
}

pub(super) async fn take(
    State(registry): Shared,
    Path(named): Path<WorkerPath>,
) -> Answer<Response> {
    let (handle, jobs) = hold_take(&registry, &named, 1).await?;
    let [job, ..] = &jobs[..] else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut text = JsonText::default();
    add_job(&mut text, job, handle.rules());
    Ok(answer(handle, named.worker, &jobs, text))
}

pub(super) async fn take_batch(
    State(registry): Shared,
    Path(named): Path<WorkerPath>,
    Query(batch): Query<BatchQuery>,
) -> Answer<Response> {
    let wanted = match batch.batch_size.as_deref().map(str::parse::<usize>) {
        None => 1,
        Some(Ok(wanted)) => wanted.clamp(1, MOST_JOBS),
        Some(Err(_)) => return Err(Failure::bad("invalid `batch_size`: not a number")),
    };
    let (handle, jobs) = hold_take(&registry, &named, wanted).await?;
    if jobs.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let mut text = JsonText::default();
    let mut before = "[";
    for job in &jobs {
        text.text(std::mem::replace(&mut before, ","));
        add_job(&mut text, job, handle.rules());
    }
    text.text("]");
    Ok(answer(handle, named.worker, &jobs, text))
}

/// Waits for jobs and returns them; no jobs once the hold is over.
async fn hold_take(
    registry: &Registry,
    named: &WorkerPath,
    wanted: usize,
) -> Answer<(Arc<EndpointHandle>, Vec<Stored>)> {
    let handle = registry.get(&named.endpoint)?;
    handle.endpoint().admit(&named.worker).await?;
    let _open = OpenPoll::new(&handle, &named.worker, true).await?;
    // No await between the take and the response, so that a poll whose connection breaks while it waits takes no job.
    let taking = handle.until_queued(handle.rules().poll_hold, || async {
        let jobs = handle.endpoint().take(&named.worker, wanted).await;
        (!jobs.is_empty()).then_some(jobs)
    });
    let jobs = taking.await.unwrap_or_default();
    Ok((handle, jobs))
}

/// Returns the response with the jobs. If the connection breaks before it has taken them, they return to the queue.
fn answer(
    handle: Arc<EndpointHandle>,
    worker_id: String,
    jobs: &[Stored],
    text: JsonText,
) -> Response {
    let ids: Vec<Id> = jobs.iter().map(|job| Id::clone(&job.record.id)).collect();
    json_or_undo(text, move || {
        in_background(async move { handle.endpoint().give_back(&worker_id, &ids).await });
    })
}

pub(super) async fn stop(
    State(registry): Shared,
    Path(named): Path<WorkerPath>,
) -> Answer<Response> {
    let handle = registry.get(&named.endpoint)?;
    let _open = OpenPoll::new(&handle, &named.worker, false).await?;
    let waiting = handle.until_stop(handle.rules().poll_hold, || async {
        let ids = handle.endpoint().stops(&named.worker).await;
        (!ids.is_empty()).then_some(ids)
    });
    let Some(ids) = waiting.await else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut text = JsonText::default();
    let named_ids = ids.iter().map(ToString::to_string).collect();
    text.value(&StopSignals::new(named_ids));
    let back = Arc::clone(&handle);
    let worker_id = named.worker;
    Ok(json_or_undo(text, move || {
        in_background(async move { back.endpoint().unstop(&worker_id, &ids).await });
    }))
}

pub(super) async fn done(
    State(registry): Shared,
    Path(named): Path<WorkerJobPath>,
    body: Body,
) -> Answer<StatusCode> {
    let handle = registry.get(&named.endpoint)?;
    let sync = named.job.starts_with(limits::SYNC_ID_PREFIX);
    let post = read_post(body, handle.rules().payload(sync)).await?;
    let result = NewResult {
        is_progress: post.status.as_deref() == Some(JobStatus::InProgress.as_str()),
        output: post.output.map(payload),
        error: post.error.map(|error| Box::<str>::from(error).into()),
        stop_pod: post.stop_pod,
    };
    let posted = handle.endpoint().post(&named.worker, &named.job, result);
    posted.await?;
    Ok(StatusCode::OK)
}

pub(super) async fn stream(
    State(registry): Shared,
    Path(named): Path<WorkerJobPath>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let handle = registry.get(&named.endpoint)?;
    let post = read_post(body, handle.rules().chunk).await?;
    let key = headers.get(IDEMPOTENCY_KEY_HEADER);
    let key = key.and_then(|key| key.to_str().ok());
    let chunk = post
        .output
        .ok_or_else(|| Failure::bad("missing `output` of the chunk"))?;
    let (endpoint, chunk) = (handle.endpoint(), payload(chunk));
    let kept = endpoint.chunk(&named.worker, &named.job, chunk, key);
    kept.await?;
    Ok(StatusCode::OK)
}

async fn read_post(body: Body, limit: usize) -> Answer<Post> {
    let body = read(body, limit + ENVELOPE).await?;
    object(body, "{\"output\": …} or {\"error\": …}").await
}

pub(super) async fn ping(
    State(registry): Shared,
    Path(named): Path<WorkerPath>,
    Query(ping): Query<Ping>,
) -> Answer<StatusCode> {
    let handle = registry.get(&named.endpoint)?;
    let unhealthy = ping.status.as_deref() == Some("unhealthy");
    let ids = ping.job_id.as_deref().unwrap_or_default();
    let running = ids.split(',').filter(|id| !id.is_empty());
    let running: Vec<&str> = running.take(MOST_JOBS).collect();
    let ping = handle.endpoint().ping(&named.worker, &running, unhealthy);
    ping.await;
    Ok(StatusCode::OK)
}

/// An open poll, which shows that its worker is alive.
struct OpenPoll {
    handle: Arc<EndpointHandle>,
    worker_id: String,
}

impl OpenPoll {
    async fn new(handle: &Arc<EndpointHandle>, worker_id: &str, takes: bool) -> Answer<Self> {
        handle.endpoint().poll_opened(worker_id, takes).await?;
        Ok(Self {
            handle: Arc::clone(handle),
            worker_id: worker_id.to_owned(),
        })
    }
}

impl Drop for OpenPoll {
    fn drop(&mut self) {
        let handle = Arc::clone(&self.handle);
        let worker_id = std::mem::take(&mut self.worker_id);
        in_background(async move { handle.endpoint().poll_closed(&worker_id).await });
    }
}
