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
use super::named::{Path, Query};
use super::reply::Failure;
use crate::endpoints::Endpoints;
use crate::hub::Hub;

type Answer<T> = Result<T, Failure>;
type Shared = State<Arc<Endpoints>>;

/// Room for what surrounds an output in a post, bytes.
const ENVELOPE: usize = 64 * 1024;
/// Most jobs that one take hands out.
const MOST_JOBS: usize = 1000;

#[derive(Debug, Deserialize)]
pub(super) struct OfWorker {
    endpoint: String,
    worker: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct OfJob {
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
    State(endpoints): Shared,
    Path(named): Path<OfWorker>,
) -> Answer<Response> {
    let (hub, jobs) = hold_take(&endpoints, &named, 1).await?;
    match &jobs[..] {
        [] => Ok(StatusCode::NO_CONTENT.into_response()),
        [job, ..] => Ok(answer(&hub, named.worker, &jobs, job)),
    }
}

pub(super) async fn take_batch(
    State(endpoints): Shared,
    Path(named): Path<OfWorker>,
    Query(batch): Query<Batch>,
) -> Answer<Response> {
    let wanted = match batch.batch_size.as_deref().map(str::parse::<usize>) {
        None => 1,
        Some(Ok(wanted)) => wanted.clamp(1, MOST_JOBS),
        Some(Err(_)) => return Err(Failure::bad("`batch_size` must be a number of jobs")),
    };
    let (hub, jobs) = hold_take(&endpoints, &named, wanted).await?;
    if jobs.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(answer(&hub, named.worker, &jobs, &jobs))
}

/// Jobs, once there are any; none when the hold is over.
async fn hold_take(
    endpoints: &Endpoints,
    named: &OfWorker,
    wanted: usize,
) -> Answer<(Arc<Hub>, Vec<Job>)> {
    let hub = endpoints.get(&named.endpoint)?;
    hub.change(|endpoint, now| endpoint.admit(&named.worker, now))?;
    let _open = OpenPoll::new(&hub, &named.worker, true)?;
    let taking = hub.until_queued(|hub| {
        let jobs = hub.change(|endpoint, now| endpoint.take(&named.worker, wanted, now));
        (!jobs.is_empty()).then_some(jobs)
    });
    // Nothing is awaited between the take and the answer: a connection that breaks while it waits holds no job.
    let jobs = timeout(hub.rules().poll_hold, taking).await.ok().flatten();
    Ok((hub, jobs.unwrap_or_default()))
}

/// The jobs on their way; when the connection breaks before they are written, they wait again.
fn answer(
    hub: &Arc<Hub>,
    worker_id: String,
    jobs: &[Job],
    body: &impl serde::Serialize,
) -> Response {
    let ids: Vec<String> = jobs.iter().map(|job| job.id.clone()).collect();
    let hub = Arc::clone(hub);
    json_or_undo(body, move || {
        hub.change(|endpoint, _| endpoint.give_back(&worker_id, &ids));
    })
}

pub(super) async fn stop(
    State(endpoints): Shared,
    Path(named): Path<OfWorker>,
) -> Answer<Response> {
    let hub = endpoints.get(&named.endpoint)?;
    let _open = OpenPoll::new(&hub, &named.worker, false)?;
    let worker_id = named.worker.clone();
    let waiting = hub.until_stops(|hub| {
        let ids = hub.change(|endpoint, _| endpoint.stops(&worker_id));
        (!ids.is_empty()).then_some(ids)
    });
    let Ok(Some(ids)) = timeout(hub.rules().poll_hold, waiting).await else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let signals = StopSignals::new(ids.clone());
    let back = Arc::clone(&hub);
    Ok(json_or_undo(&signals, move || {
        back.change(|endpoint, _| endpoint.unstop(&worker_id, ids));
    }))
}

pub(super) async fn done(
    State(endpoints): Shared,
    Path(named): Path<OfJob>,
    body: Body,
) -> Answer<StatusCode> {
    let hub = endpoints.get(&named.endpoint)?;
    let sync = named.job.starts_with(limits::SYNC_ID_PREFIX);
    let post = read_post(body, hub.rules().payload(sync)).await?;
    hub.change(|endpoint, now| endpoint.post(&named.worker, &named.job, post, now))?;
    Ok(StatusCode::OK)
}

pub(super) async fn stream(
    State(endpoints): Shared,
    Path(named): Path<OfJob>,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    let hub = endpoints.get(&named.endpoint)?;
    let post = read_post(body, hub.rules().chunk).await?;
    let key = headers.get(IDEMPOTENCY_KEY_HEADER);
    let key = key.and_then(|key| key.to_str().ok());
    let chunk = post
        .output
        .ok_or_else(|| Failure::bad("a chunk has no `output`"))?;
    hub.change(|endpoint, now| endpoint.chunk(&named.worker, &named.job, chunk, key, now))?;
    Ok(StatusCode::OK)
}

async fn read_post(body: Body, limit: usize) -> Answer<Post> {
    let body = read(body, limit + ENVELOPE).await?;
    object(&body, "a worker's post")
}

pub(super) async fn ping(
    State(endpoints): Shared,
    Path(named): Path<OfWorker>,
    Query(ping): Query<Ping>,
) -> Answer<StatusCode> {
    let hub = endpoints.get(&named.endpoint)?;
    let unhealthy = ping.status.as_deref() == Some("unhealthy");
    let ids = ping.job_id.as_deref().unwrap_or_default();
    let running = ids.split(',').filter(|id| !id.is_empty()).take(MOST_JOBS);
    hub.change(|endpoint, now| endpoint.ping(&named.worker, running, unhealthy, now));
    Ok(StatusCode::OK)
}

/// A poll that is open; while one is, its worker is there.
struct OpenPoll {
    hub: Arc<Hub>,
    worker_id: String,
}

impl OpenPoll {
    fn new(hub: &Arc<Hub>, worker_id: &str, takes: bool) -> Answer<Self> {
        hub.change(|endpoint, now| endpoint.poll_opened(worker_id, takes, now))?;
        Ok(Self {
            hub: Arc::clone(hub),
            worker_id: worker_id.to_owned(),
        })
    }
}

impl Drop for OpenPoll {
    fn drop(&mut self) {
        self.hub
            .change(|endpoint, now| endpoint.poll_closed(&self.worker_id, now));
    }
}
