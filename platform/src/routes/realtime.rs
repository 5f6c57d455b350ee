//! Realtime calls: a job comes in, and its result goes out.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use podwork_protocol::limits;
use podwork_protocol::worker::{Job, Post};

use super::body::{object, read};
use super::client::when_ended;
use super::failure::Failure;
use crate::answers::status;
use crate::engine::{Id, Submission};
use crate::registry::Registry;
use crate::run_request::{members, payload};

/// Who calls gets the result at once, and nobody asks for it again.
const RETENTION: Duration = Duration::from_secs(1);

pub(super) async fn call(
    State(registry): State<Arc<Registry>>,
    body: Body,
) -> Result<Json<Post>, Failure> {
    let handle = registry.get(registry.default_id())?;
    let body = read(body, handle.rules().runsync_payload).await?;
    let job: Job = object(body, "{\"id\": …, \"input\": …}").await?;
    let id = Id::from(job.id);
    let submission = Submission {
        id: Id::clone(&id),
        input: payload(job.input),
        extra: members(&job.extra),
        execution_timeout: limits::DEFAULT_EXECUTION_TIMEOUT,
        ttl: limits::DEFAULT_TTL,
        retention: RETENTION,
        webhook: None,
    };
    handle.endpoint().submit(submission).await?;
    let Some(ended) = when_ended(&handle, &id, limits::DEFAULT_TTL).await else {
        return Err(Failure::closing());
    };
    let ended = status(&ended?);
    Ok(Json(Post {
        output: ended.output,
        error: ended.error,
        ..Post::default()
    }))
}
