//! Middleware that injects faults into calls.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::failure::Failure;
use crate::faults::{Decider, Fate};

/// Applies the delay and outcome that the decider chose for the call.
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
            // The response is dropped unread, so that its jobs or stops are put back.
            drop(next.run(request).await);
            broken()
        }
    }
}

/// Returns a response that breaks the connection.
fn broken() -> Response {
    let torn = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("injected fault"))]);
    let mut response = Response::new(Body::from_stream(torn));
    // The status may be sent before the connection breaks, so it is an error.
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
