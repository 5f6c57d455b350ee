//! Faults on purpose: calls that fail as the platform was told to.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::failure::Failure;
use crate::faults::{Decider, Fate};

/// Applies to each call what the decider rolls for it.
pub(super) async fn apply(
    State(decider): State<Arc<Decider>>,
    request: Request,
    next: Next,
) -> Response {
    let (latency, fate) = decider.next();
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    match fate {
        Fate::Well => next.run(request).await,
        Fate::Error(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Failure::on_purpose(status).into_response()
        }
        Fate::Throttled => Failure::on_purpose(StatusCode::TOO_MANY_REQUESTS).into_response(),
        Fate::Dropped => broken(),
        Fate::Lost => {
            // Not read, so what it carries goes back to where it was.
            drop(next.run(request).await);
            broken()
        }
    }
}

/// An answer that breaks the connection.
fn broken() -> Response {
    let torn = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("broken on purpose"))]);
    let mut response = Response::new(Body::from_stream(torn));
    // Where the status still gets out it says no success.
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
