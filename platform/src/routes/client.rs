//! The client contract: `/run` and its sisters.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use podwork_protocol::client::{
    Health, JobState, PurgeResponse, RunRequest, StatusResponse, StreamResponse,
};
use serde::Deserialize;
use tokio::time::timeout;
use utoipa::IntoParams;

use super::body::{json_or_undo, object, read};
use super::extract::{Path, Query, Shared};
use super::failure::{Answer, Failure};
use super::openapi::{EndpointParam, JobParam, NotAdmitted, Refused};
use crate::endpoint_handle::EndpointHandle;
use crate::engine::Submission;
use crate::registry::Registry;
use crate::rules::{Rules, Span};
use crate::run_request::submission_of;

/// What the path names: the endpoint, absent at the root, and the job.
#[derive(Debug, Deserialize)]
pub(super) struct ClientPath {
    endpoint: Option<String>,
    #[serde(default)]
    pub(super) job: String,
}

/// How long the client waits. Read as text: what is wrong with it is said in our own words.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Waits {
    /// How long to hold the answer back, ms; 90000 unless it is set, and from 1000 to 300000.
    #[param(value_type = Option<u64>, format = "ms")]
    wait: Option<String>,
}

/// How long the job is of use to the client.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Shortens {
    /// The job is gone so many ms from now at the latest.
    #[param(value_type = Option<u64>, format = "ms")]
    ttl: Option<String>,
}

impl Waits {
    /// How long to hold the answer back.
    fn wait(&self, span: &Span) -> Answer<Duration> {
        Ok(span.nearest(millis("wait", self.wait.as_deref())?))
    }
}

fn millis(name: &str, text: Option<&str>) -> Answer<Option<Duration>> {
    let parse = |text: &str| match text.trim().parse() {
        Ok(millis) => Ok(Duration::from_millis(millis)),
        Err(_) => Err(Failure::bad(format!(
            "`{name}` is `{text}`, and must be a number of milliseconds"
        ))),
    };
    text.map(parse).transpose()
}

pub(super) fn handle(registry: &Registry, named: &ClientPath) -> Answer<Arc<EndpointHandle>> {
    let id = named.endpoint.as_deref().unwrap_or(registry.default_id());
    Ok(registry.get(id)?)
}

/// Queues a job
///
/// It answers at once, with the job's id. Ask `/status` or `/stream` for how the job goes.
#[utoipa::path(
    post,
    path = "/run",
    params(EndpointParam),
    request_body = RunRequest,
    responses((status = 200, description = "The job is queued", body = JobState), Refused, NotAdmitted),
)]
pub(super) async fn run(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
    body: Body,
) -> Answer<Json<JobState>> {
    let handle = handle(&registry, &named)?;
    handle.admit(false)?;
    let body = read(body, handle.rules().run_payload).await?;
    let submission = submission(&body, false, handle.rules())?;
    Ok(Json(handle.change(|endpoint, now| {
        endpoint.submit(submission, now)
    })?))
}

/// Queues a job and waits for its end
///
/// Once the wait is over, it answers with the job's id and where it stands; ask `/status-sync` for the rest.
#[utoipa::path(
    post,
    path = "/runsync",
    params(EndpointParam, Waits),
    request_body = RunRequest,
    responses((status = 200, description = "The job has ended, or the wait is over", body = StatusResponse), Refused, NotAdmitted),
)]
pub(super) async fn runsync(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
    Query(asked): Query<Waits>,
    body: Body,
) -> Answer<Response> {
    let handle = handle(&registry, &named)?;
    handle.admit(true)?;
    let wait = asked.wait(&handle.rules().wait)?;
    let body = read(body, handle.rules().runsync_payload).await?;
    let submission = submission(&body, true, handle.rules())?;
    let id = crate::engine::Id::clone(&submission.id);
    handle.change(|endpoint, now| endpoint.submit(submission, now))?;
    match when_ended(&handle, &id, wait).await {
        Some(ended) => Ok(Json(ended?).into_response()),
        None => Ok(
            Json(handle.read(|endpoint| endpoint.job(&id).map(crate::engine::Job::state))?)
                .into_response(),
        ),
    }
}

/// Where a job stands
///
/// While it runs, its `output` is the last progress update.
#[utoipa::path(
    method(get, post),
    path = "/status/{job}",
    params(JobParam, Shortens),
    responses((status = 200, description = "The job", body = StatusResponse), Refused),
)]
pub(super) async fn status(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
    Query(asked): Query<Shortens>,
) -> Answer<Json<StatusResponse>> {
    let handle = handle(&registry, &named)?;
    if let Some(ttl) = millis("ttl", asked.ttl.as_deref())? {
        handle.change(|endpoint, now| endpoint.shorten(&named.job, ttl, now));
    }
    Ok(Json(handle.read(|endpoint| endpoint.status(&named.job))?))
}

/// Where a job stands, once it has ended
///
/// It answers earlier once the wait is over.
#[utoipa::path(
    method(get, post),
    path = "/status-sync/{job}",
    params(JobParam, Waits),
    responses((status = 200, description = "The job", body = StatusResponse), Refused),
)]
pub(super) async fn status_sync(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
    Query(asked): Query<Waits>,
) -> Answer<Json<StatusResponse>> {
    let handle = handle(&registry, &named)?;
    let wait = asked.wait(&handle.rules().wait)?;
    match when_ended(&handle, &named.job, wait).await {
        Some(ended) => Ok(Json(ended?)),
        None => Ok(Json(handle.read(|endpoint| endpoint.status(&named.job))?)),
    }
}

/// The job's status once it has ended; `None` once the wait is over.
pub(super) async fn when_ended(
    handle: &EndpointHandle,
    id: &str,
    wait: Duration,
) -> Option<Answer<StatusResponse>> {
    let ended = handle.until_job(id, |handle| {
        let status = handle.read(|endpoint| endpoint.status(id))?;
        Ok(status.status.is_final().then_some(status))
    });
    let ended = timeout(wait, ended).await.ok()?;
    Some(
        ended
            .ok_or_else(Failure::closing)
            .and_then(|status| Ok(status?)),
    )
}

/// The chunks since the last call
///
/// It is held for a few seconds while there is nothing new. A final status comes only with the last chunks.
#[utoipa::path(
    method(get, post),
    path = "/stream/{job}",
    params(JobParam),
    responses((status = 200, description = "The chunks", body = StreamResponse), Refused),
)]
pub(super) async fn stream(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
) -> Answer<Response> {
    let handle = handle(&registry, &named)?;
    let id = named.job;
    let take = |handle: &EndpointHandle, even_empty| {
        handle.change(|endpoint, _| endpoint.stream(&id, even_empty))
    };
    let held = handle.until_job(&id, |handle| take(handle, false));
    let found = match timeout(handle.rules().stream_hold, held).await {
        Ok(Some(found)) => Some(found?),
        // The hold is over, or the platform closes: what there is.
        Ok(None) | Err(_) => take(&handle, true)?,
    };
    let Some((response, mark)) = found else {
        return Err(Failure::closing());
    };
    let carried = !response.stream.is_empty();
    let back = Arc::clone(&handle);
    Ok(json_or_undo(&response, move || {
        if carried {
            back.change(|endpoint, _| endpoint.unstream(&id, mark));
        }
    }))
}

/// Cancels a job
///
/// A queued job never runs; a running one is stopped at its worker; one that has ended stays as it is.
#[utoipa::path(
    post,
    path = "/cancel/{job}",
    params(JobParam),
    responses((status = 200, description = "Where the job stands now", body = JobState), Refused),
)]
pub(super) async fn cancel(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
) -> Answer<Json<JobState>> {
    let handle = handle(&registry, &named)?;
    Ok(Json(handle.change(|endpoint, now| {
        endpoint.cancel(&named.job, now)
    })?))
}

/// Runs a job again
///
/// Only one that is `FAILED` or `TIMED_OUT`. Id and input stay; its output is dropped.
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
    Ok(Json(
        handle.change(|endpoint, now| endpoint.retry(&named.job, now))?,
    ))
}

/// Removes all queued jobs
///
/// Those in progress go on.
#[utoipa::path(
    post,
    path = "/purge-queue",
    params(EndpointParam),
    responses((status = 200, description = "How many were removed", body = PurgeResponse), Refused),
)]
pub(super) async fn purge_queue(
    State(registry): Shared,
    Path(named): Path<ClientPath>,
) -> Answer<Json<PurgeResponse>> {
    let handle = handle(&registry, &named)?;
    Ok(Json(handle.change(|endpoint, _| endpoint.purge())))
}

/// Jobs and workers, by what they do
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
    Ok(Json(handle.read(crate::engine::Endpoint::health)))
}

fn submission(body: &[u8], sync: bool, rules: &Rules) -> Answer<Submission> {
    let request: RunRequest = object(body, "{\"input\": …}")?;
    Ok(submission_of(request, sync, rules)?)
}
