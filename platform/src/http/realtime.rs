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
use super::reply::Failure;
use crate::core::Submission;
use crate::endpoints::Endpoints;

/// Who calls gets the result at once, and nobody asks for it again.
const RETENTION: Duration = Duration::from_secs(1);

pub(super) async fn call(
    State(endpoints): State<Arc<Endpoints>>,
    body: Body,
) -> Result<Json<Post>, Failure> {
    let hub = endpoints.get(endpoints.default_id())?;
    let body = read(body, hub.rules().runsync_payload).await?;
    let job: Job = object(&body, "{\"id\": …, \"input\": …}")?;
    let id = job.id.clone();
    let submission = Submission {
        id: job.id.into(),
        input: job.input,
        extra: job.extra,
        execution_timeout: limits::DEFAULT_EXECUTION_TIMEOUT,
        ttl: limits::DEFAULT_TTL,
        retention: RETENTION,
        webhook: None,
    };
    hub.change(|endpoint, now| endpoint.submit(submission, now))?;
    match when_ended(&hub, &id, limits::DEFAULT_TTL).await {
        Some(ended) => {
            let ended = ended?;
            let mut post = Post::default();
            (post.output, post.error) = (ended.output, ended.error);
            Ok(Json(post))
        }
        None => Err(Failure::closing()),
    }
}
