//! The client API: `/run` and the other operations.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use bytes::Buf;
use podwork_protocol::client::{
    Health, JobState, PurgeResponse, RunRequest, StatusResponse, StreamResponse,
};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::body::{json, json_and_then, object, read};
use super::extract::{Path, Query, Shared};
use super::failure::{Answer, Failure};
use super::openapi::{EndpointParam, JobParam, Limited, NotAdmitted, Refused};
use crate::answers::{state_text, status_text, stream_text};
use crate::call_limits::Operation;
use crate::connections::Written;
use crate::endpoint_handle::{EndpointHandle, in_background};
use crate::engine::{Id, Refusal, Submission};
use crate::registry::Registry;
use crate::rules::{Rules, Span};
use crate::run_request::submission_of;
use crate::store::{Stored, Wanted};

/// The path parameters: the endpoint, absent at the root, and the job.
#[derive(Debug, Deserialize)]
pub(super) struct ClientPath {
    endpoint: Option<String>,
    #[serde(default)]
    pub(super) job: String,
}

/// The query parameters of operations that wait. Read as text, so that errors have our own wording.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Waits {
    /// Maximum time to wait for the job's end, in milliseconds, from 1000 to 300000. Default: 90000.
    #[param(value_type = Option<u64>, format = "ms")]
    wait: Option<String>,
}

/// The query parameters of `/status`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Shortens {
    /// Maximum time from now until the job is removed, in milliseconds.
    #[param(value_type = Option<u64>, format = "ms")]
    ttl: Option<String>,
}

impl Waits {
    /// Returns the maximum time to wait for the job's end.
    fn wait(&self, span: &Span) -> Answer<Duration> {
        Ok(span.nearest(millis("wait", self.wait.as_deref())?))
    }
}

fn millis(name: &str, text: Option<&str>) -> Answer<Option<Duration>> {
    let parse = |text: &str| match text.trim().parse() {
        Ok(millis) => Ok(Duration::from_millis(millis)),
        Err(_) => Err(Failure::bad(format!(
            "invalid `{name}`: `{text}` is not a number of milliseconds"
        ))),
    };
    text.map(parse).transpose()
}

pub(super) fn handle(registry: &Registry, named: &ClientPath) -> Answer<Arc<EndpointHandle>> {
    Ok(registry.named(named.endpoint.as_deref())?)
}

/// Queues a job
///
/// Returns the job's id at once. Poll `/status` or `/stream` to follow the job.
#[utoipa::path(
    post,
    path = "/run",
    params(EndpointParam),
    request_body = RunRequest,
    responses((status = 200, description = "The job is queued", body = JobState), Refused, NotAdmitted, Limited),
)]
pub(super) async fn run(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
    body: Body,
) -> Answer<Json<JobState>> {
    let handle = handle(&registry, &named)?;
    let _open = handle.admit(Operation::Run).await?;
    let body = read(body, handle.rules().run_payload).await?;
    let submission = submission(body, false, handle.rules()).await?;
    Ok(Json(handle.endpoint().submit(submission).await?))
}

/// Queues a job and waits for its end
///
/// If the job has not ended within the wait, returns its id and status; call `/status-sync` to continue waiting.
#[utoipa::path(
    post,
    path = "/runsync",
    params(EndpointParam, Waits),
    request_body = RunRequest,
    responses((status = 200, description = "The job has ended, or the wait is over", body = StatusResponse), Refused, NotAdmitted, Limited),
)]
pub(super) async fn runsync(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
    Query(asked): Query<Waits>,
    body: Body,
) -> Answer<Response> {
    let handle = handle(&registry, &named)?;
    let _open = handle.admit(Operation::Runsync).await?;
    let wait = asked.wait(&handle.rules().wait)?;
    let body = read(body, handle.rules().runsync_payload).await?;
    let submission = submission(body, true, handle.rules()).await?;
    let id = Id::clone(&submission.id);
    handle.endpoint().submit(submission).await?;
    if let Some(ended) = when_ended(&handle, &id, wait).await {
        return Ok(status_answer(&ended?, handle.rules()));
    }
    let job = handle.endpoint().job(&id, Wanted::Nothing).await?;
    Ok(json(state_text(&job.record, handle.rules())))
}

/// Returns the status of a job
///
/// While the job runs, `output` is the last progress update. `retries` is present if the job returned to the queue.
#[utoipa::path(
    method(get, post),
    path = "/status/{job}",
    params(JobParam, Shortens),
    responses((status = 200, description = "The job", body = StatusResponse), Refused, Limited),
)]
pub(super) async fn status(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
    Query(asked): Query<Shortens>,
) -> Answer<Response> {
    let handle = handle(&registry, &named)?;
    let _open = handle.admit(Operation::Status).await?;
    if let Some(ttl) = millis("ttl", asked.ttl.as_deref())? {
        handle.endpoint().shorten(&named.job, ttl).await;
    }
    let job = handle.endpoint().job(&named.job, Wanted::Output).await?;
    Ok(status_answer(&job, handle.rules()))
}

/// Waits for the end of a job and returns its status
///
/// If the job has not ended within the wait, returns its current status.
#[utoipa::path(
    method(get, post),
    path = "/status-sync/{job}",
    params(JobParam, Waits),
    responses((status = 200, description = "The job", body = StatusResponse), Refused, Limited),
)]
pub(super) async fn status_sync(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
    Query(asked): Query<Waits>,
) -> Answer<Response> {
    let handle = handle(&registry, &named)?;
    let _open = handle.admit(Operation::Status).await?;
    let wait = asked.wait(&handle.rules().wait)?;
    let job = match when_ended(&handle, &named.job, wait).await {
        Some(ended) => ended?,
        None => handle.endpoint().job(&named.job, Wanted::Output).await?,
    };
    Ok(status_answer(&job, handle.rules()))
}

/// Waits until a job has ended, and returns it; `None` after `wait`, or when the platform shuts down.
pub(super) async fn when_ended(
    handle: &EndpointHandle,
    id: &str,
    wait: Duration,
) -> Option<Result<Stored, Refusal>> {
    let ended = handle.until_job(id, Some(wait), || async {
        let job = handle.endpoint().job(id, Wanted::Output).await;
        let waits = |job: &Stored| !job.record.status.is_final();
        (!job.as_ref().is_ok_and(waits)).then_some(job)
    });
    ended.await
}

fn status_answer(job: &Stored, rules: &Rules) -> Response {
    json(status_text(&job.record, job.output.as_ref(), rules))
}

/// Returns the chunks since the last call
///
/// Waits a few seconds if there are no new chunks. A final status is returned only with the last chunks.
#[utoipa::path(
    method(get, post),
    path = "/stream/{job}",
    params(JobParam),
    responses((status = 200, description = "The chunks", body = StreamResponse), Refused, Limited),
)]
pub(super) async fn stream(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
    Extension(written): Extension<Written>,
) -> Answer<Response> {
    let handle = handle(&registry, &named)?;
    let _open = handle.admit(Operation::Stream).await?;
    let (endpoint, id) = (handle.endpoint(), &*named.job);
    let hold = handle.rules().stream_hold;
    let started = Instant::now();
    // If the response to another reader is not written, its chunks must be delivered again.
    let claim = handle.claim_stream(id, hold).await;
    let hold = hold.saturating_sub(started.elapsed());
    let unread = handle.until_job(id, Some(hold), || async {
        endpoint.unread(id, false).await.transpose()
    });
    let job = match unread.await {
        Some(job) => job?,
        // The hold is over, or the platform shuts down: return what there is.
        None => endpoint.job(id, Wanted::Unread).await?,
    };
    let text = stream_text(&job, handle.rules());
    if job.chunks.is_empty() {
        return Ok(json(text));
    }
    let handle = Arc::clone(&handle);
    Ok(json_and_then(text, written, move || {
        in_background(async move {
            handle.endpoint().mark_read(&job).await;
            drop(claim);
        });
    }))
}

/// Cancels a job
///
/// A queued job never runs. A running job is cancelled at its worker. A job that has ended does not change.
#[utoipa::path(
    post,
    path = "/cancel/{job}",
    params(JobParam),
    responses((status = 200, description = "The job's new status", body = JobState), Refused, Limited),
)]
pub(super) async fn cancel(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
) -> Answer<Json<JobState>> {
    let handle = handle(&registry, &named)?;
    let _open = handle.admit(Operation::Cancel).await?;
    Ok(Json(handle.endpoint().cancel(&named.job).await?))
}

/// Runs a job again
///
/// The job must be `FAILED` or `TIMED_OUT`. It keeps its id and input; its output is removed.
#[utoipa::path(
    post,
    path = "/retry/{job}",
    params(JobParam),
    responses((status = 200, description = "The job is queued", body = JobState), Refused),
)]
pub(super) async fn retry(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
) -> Answer<Json<JobState>> {
    let handle = handle(&registry, &named)?;
    Ok(Json(handle.endpoint().retry(&named.job).await?))
}

/// Removes all queued jobs
///
/// Running jobs continue.
#[utoipa::path(
    post,
    path = "/purge-queue",
    params(EndpointParam),
    responses((status = 200, description = "The number of removed jobs", body = PurgeResponse), Refused, Limited),
)]
pub(super) async fn purge_queue(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
) -> Answer<Json<PurgeResponse>> {
    let handle = handle(&registry, &named)?;
    let _open = handle.admit(Operation::PurgeQueue).await?;
    Ok(Json(handle.endpoint().purge().await))
}

/// Counts jobs and workers by state
#[utoipa::path(
    get,
    path = "/health",
    params(EndpointParam),
    responses((status = 200, description = "The counts", body = Health), Refused),
)]
pub(super) async fn health(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
) -> Answer<Json<Health>> {
    let handle = handle(&registry, &named)?;
    Ok(Json(handle.endpoint().health().await))
}

async fn submission(
    body: impl Buf + Send + 'static,
    sync: bool,
    rules: &Rules,
) -> Answer<Submission> {
    let request: RunRequest = object(body, "{\"input\": …}").await?;
    Ok(submission_of(request, sync, rules)?)
}
