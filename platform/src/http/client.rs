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
use super::named::{Path, Query};
use super::openapi::{NotAdmitted, OfEndpoint, OfJob, Refused};
use super::reply::Failure;
use crate::core::Submission;
use crate::endpoints::Endpoints;
use crate::hub::Hub;
use crate::rules::{Rules, Span};
use crate::submission::submission_of;

type Answer<T> = Result<T, Failure>;
type Shared = State<Arc<Endpoints>>;

/// What the path names: the endpoint, absent at the root, and the job.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
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

pub(super) fn hub(endpoints: &Endpoints, named: &Named) -> Answer<Arc<Hub>> {
    let id = named.endpoint.as_deref().unwrap_or(endpoints.default_id());
    Ok(endpoints.get(id)?)
}

/// Queues a job
///
/// It answers at once, with the job's id. Ask `/status` or `/stream` for how the job goes.
#[utoipa::path(
    post,
    path = "/run",
    params(OfEndpoint),
    request_body = RunRequest,
    responses((status = 200, description = "The job is queued", body = JobState), Refused, NotAdmitted),
)]
pub(super) async fn run(
    State(endpoints): Shared,
    Path(named): Path<Named>,
    body: Body,
) -> Answer<Json<JobState>> {
    let hub = hub(&endpoints, &named)?;
    hub.admit(false)?;
    let body = read(body, hub.rules().run_payload).await?;
    let submission = submission(&body, false, hub.rules())?;
    Ok(Json(hub.change(|endpoint, now| {
        endpoint.submit(submission, now)
    })?))
}

/// Queues a job and waits for its end
///
/// Once the wait is over, it answers with the job's id and where it stands; ask `/status-sync` for the rest.
#[utoipa::path(
    post,
    path = "/runsync",
    params(OfEndpoint, Waits),
    request_body = RunRequest,
    responses((status = 200, description = "The job has ended, or the wait is over", body = StatusResponse), Refused, NotAdmitted),
)]
pub(super) async fn runsync(
    State(endpoints): Shared,
    Path(named): Path<Named>,
    Query(asked): Query<Waits>,
    body: Body,
) -> Answer<Response> {
    let hub = hub(&endpoints, &named)?;
    hub.admit(true)?;
    let wait = asked.wait(&hub.rules().wait)?;
    let body = read(body, hub.rules().runsync_payload).await?;
    let submission = submission(&body, true, hub.rules())?;
    let id = crate::core::Id::clone(&submission.id);
    hub.change(|endpoint, now| endpoint.submit(submission, now))?;
    match when_ended(&hub, &id, wait).await {
        Some(ended) => Ok(Json(ended?).into_response()),
        None => Ok(
            Json(hub.read(|endpoint| endpoint.job(&id).map(crate::core::Job::state))?)
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
    params(OfJob, Shortens),
    responses((status = 200, description = "The job", body = StatusResponse), Refused),
)]
pub(super) async fn status(
    State(endpoints): Shared,
    Path(named): Path<Named>,
    Query(asked): Query<Shortens>,
) -> Answer<Json<StatusResponse>> {
    let hub = hub(&endpoints, &named)?;
    if let Some(ttl) = millis("ttl", asked.ttl.as_deref())? {
        hub.change(|endpoint, now| endpoint.shorten(&named.job, ttl, now));
    }
    Ok(Json(hub.read(|endpoint| endpoint.status(&named.job))?))
}

/// Where a job stands, once it has ended
///
/// It answers earlier once the wait is over.
#[utoipa::path(
    method(get, post),
    path = "/status-sync/{job}",
    params(OfJob, Waits),
    responses((status = 200, description = "The job", body = StatusResponse), Refused),
)]
pub(super) async fn status_sync(
    State(endpoints): Shared,
    Path(named): Path<Named>,
    Query(asked): Query<Waits>,
) -> Answer<Json<StatusResponse>> {
    let hub = hub(&endpoints, &named)?;
    let wait = asked.wait(&hub.rules().wait)?;
    match when_ended(&hub, &named.job, wait).await {
        Some(ended) => Ok(Json(ended?)),
        None => Ok(Json(hub.read(|endpoint| endpoint.status(&named.job))?)),
    }
}

/// The job's status once it has ended; `None` once the wait is over.
pub(super) async fn when_ended(
    hub: &Hub,
    id: &str,
    wait: Duration,
) -> Option<Answer<StatusResponse>> {
    let ended = hub.until_job(id, |hub| {
        let status = hub.read(|endpoint| endpoint.status(id))?;
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
    params(OfJob),
    responses((status = 200, description = "The chunks", body = StreamResponse), Refused),
)]
pub(super) async fn stream(State(endpoints): Shared, Path(named): Path<Named>) -> Answer<Response> {
    let hub = hub(&endpoints, &named)?;
    let id = named.job;
    let take = |hub: &Hub, even_empty| hub.change(|endpoint, _| endpoint.stream(&id, even_empty));
    let held = hub.until_job(&id, |hub| take(hub, false));
    let found = match timeout(hub.rules().stream_hold, held).await {
        Ok(Some(found)) => Some(found?),
        // The hold is over, or the platform closes: what there is.
        Ok(None) | Err(_) => take(&hub, true)?,
    };
    let Some((response, mark)) = found else {
        return Err(Failure::closing());
    };
    let carried = !response.stream.is_empty();
    let back = Arc::clone(&hub);
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
    params(OfJob),
    responses((status = 200, description = "Where the job stands now", body = JobState), Refused),
)]
pub(super) async fn cancel(
    State(endpoints): Shared,
    Path(named): Path<Named>,
) -> Answer<Json<JobState>> {
    let hub = hub(&endpoints, &named)?;
    Ok(Json(hub.change(|endpoint, now| {
        endpoint.cancel(&named.job, now)
    })?))
}

/// Runs a job again
///
/// Only one that is `FAILED` or `TIMED_OUT`. Id and input stay; its output is dropped.
#[utoipa::path(
    post,
    path = "/retry/{job}",
    params(OfJob),
    responses((status = 200, description = "The job is queued", body = JobState), Refused),
)]
pub(super) async fn retry(
    State(endpoints): Shared,
    Path(named): Path<Named>,
) -> Answer<Json<JobState>> {
    let hub = hub(&endpoints, &named)?;
    Ok(Json(
        hub.change(|endpoint, now| endpoint.retry(&named.job, now))?,
    ))
}

/// Removes all queued jobs
///
/// Those in progress go on.
#[utoipa::path(
    post,
    path = "/purge-queue",
    params(OfEndpoint),
    responses((status = 200, description = "How many were removed", body = PurgeResponse), Refused),
)]
pub(super) async fn purge_queue(
    State(endpoints): Shared,
    Path(named): Path<Named>,
) -> Answer<Json<PurgeResponse>> {
    let hub = hub(&endpoints, &named)?;
    Ok(Json(hub.change(|endpoint, _| endpoint.purge())))
}

/// Jobs and workers, by what they do
#[utoipa::path(
    get,
    path = "/health",
    params(OfEndpoint),
    responses((status = 200, description = "The counts", body = Health), Refused),
)]
pub(super) async fn health(
    State(endpoints): Shared,
    Path(named): Path<Named>,
) -> Answer<Json<Health>> {
    let hub = hub(&endpoints, &named)?;
    Ok(Json(hub.read(crate::core::Endpoint::health)))
}

fn submission(body: &[u8], sync: bool, rules: &Rules) -> Answer<Submission> {
    let request: RunRequest = object(body, "{\"input\": …}")?;
    Ok(submission_of(request, sync, rules)?)
}
