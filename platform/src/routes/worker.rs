//! The worker contract: take, stop, done, stream, ping.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use podwork_protocol::limits;
use podwork_protocol::worker::{IDEMPOTENCY_KEY_HEADER, Job, Post, StopSignals};
use serde::Deserialize;
use tokio::time::timeout;

use super::body::{json_or_undo, object, read};
use super::extract::{Path, Query, Shared};
use super::failure::{Answer, Failure};
use crate::endpoint_handle::EndpointHandle;
use crate::registry::Registry;

/// Room for what surrounds an output in a post, bytes.
const ENVELOPE: usize = 64 * 1024;
/// Most jobs that one take hands out.
const MOST_JOBS: usize = 1000;

#[derive(Debug, Deserialize)]
pub(super) struct WorkerPath {
    endpoint: String,
    worker: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct WorkerJobPath {
    endpoint: String,
    worker: String,
    job: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Batch {
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
    match &jobs[..] {
        [] => Ok(StatusCode::NO_CONTENT.into_response()),
        [job, ..] => Ok(answer(&handle, named.worker, &jobs, job)),
    }
}

pub(super) async fn take_batch(
    State(registry): Shared,
    Path(named): Path<WorkerPath>,
    Query(batch): Query<Batch>,
) -> Answer<Response> {
    let wanted = match batch.batch_size.as_deref().map(str::parse::<usize>) {
        None => 1,
        Some(Ok(wanted)) => wanted.clamp(1, MOST_JOBS),
        Some(Err(_)) => return Err(Failure::bad("`batch_size` must be a number of jobs")),
    };
    let (handle, jobs) = hold_take(&registry, &named, wanted).await?;
    if jobs.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(answer(&handle, named.worker, &jobs, &jobs))
}

/// Jobs, once there are any; none when the hold is over.
async fn hold_take(
    registry: &Registry,
    named: &WorkerPath,
    wanted: usize,
) -> Answer<(Arc<EndpointHandle>, Vec<Job>)> {
    let handle = registry.get(&named.endpoint)?;
    handle.change(|endpoint, now| endpoint.admit(&named.worker, now))?;
    let _open = OpenPoll::new(&handle, &named.worker, true)?;
    let taking = handle.until_queued(|handle| {
        let jobs = handle.change(|endpoint, now| endpoint.take(&named.worker, wanted, now));
        (!jobs.is_empty()).then_some(jobs)
    });
    // Nothing is awaited between the take and the answer: a connection that breaks while it waits holds no job.
    let jobs = timeout(handle.rules().poll_hold, taking)
        .await
        .ok()
        .flatten();
    Ok((handle, jobs.unwrap_or_default()))
}

/// The jobs on their way; when the connection breaks before they are written, they wait again.
fn answer(
    handle: &Arc<EndpointHandle>,
    worker_id: String,
    jobs: &[Job],
    body: &impl serde::Serialize,
) -> Response {
    let ids: Vec<String> = jobs.iter().map(|job| job.id.clone()).collect();
    let handle = Arc::clone(handle);
    json_or_undo(body, move || {
        handle.change(|endpoint, _| endpoint.give_back(&worker_id, &ids));
    })
}

pub(super) async fn stop(
    State(registry): Shared,
    Path(named): Path<WorkerPath>,
) -> Answer<Response> {
    let handle = registry.get(&named.endpoint)?;
    let _open = OpenPoll::new(&handle, &named.worker, false)?;
    let worker_id = named.worker.clone();
    let waiting = handle.until_stops(|handle| {
        let ids = handle.change(|endpoint, _| endpoint.stops(&worker_id));
        (!ids.is_empty()).then_some(ids)
    });
    let Ok(Some(ids)) = timeout(handle.rules().poll_hold, waiting).await else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let signals = StopSignals {
        jobs_to_stop: ids.clone(),
    };
    let back = Arc::clone(&handle);
    Ok(json_or_undo(&signals, move || {
        back.change(|endpoint, _| endpoint.unstop(&worker_id, ids));
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
    handle.change(|endpoint, now| endpoint.post(&named.worker, &named.job, post, now))?;
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
        .ok_or_else(|| Failure::bad("a chunk has no `output`"))?;
    handle.change(|endpoint, now| endpoint.chunk(&named.worker, &named.job, chunk, key, now))?;
    Ok(StatusCode::OK)
}

async fn read_post(body: Body, limit: usize) -> Answer<Post> {
    let body = read(body, limit + ENVELOPE).await?;
    object(&body, "a worker's post")
}

pub(super) async fn ping(
    State(registry): Shared,
    Path(named): Path<WorkerPath>,
    Query(ping): Query<Ping>,
) -> Answer<StatusCode> {
    let handle = registry.get(&named.endpoint)?;
    let unhealthy = ping.status.as_deref() == Some("unhealthy");
    let ids = ping.job_id.as_deref().unwrap_or_default();
    let running = ids.split(',').filter(|id| !id.is_empty()).take(MOST_JOBS);
    handle.change(|endpoint, now| endpoint.ping(&named.worker, running, unhealthy, now));
    Ok(StatusCode::OK)
}

/// A poll that is open; while one is, its worker is there.
struct OpenPoll {
    handle: Arc<EndpointHandle>,
    worker_id: String,
}

impl OpenPoll {
    fn new(handle: &Arc<EndpointHandle>, worker_id: &str, takes: bool) -> Answer<Self> {
        handle.change(|endpoint, now| endpoint.poll_opened(worker_id, takes, now))?;
        Ok(Self {
            handle: Arc::clone(handle),
            worker_id: worker_id.to_owned(),
        })
    }
}

impl Drop for OpenPoll {
    fn drop(&mut self) {
        self.handle
            .change(|endpoint, now| endpoint.poll_closed(&self.worker_id, now));
    }
}
