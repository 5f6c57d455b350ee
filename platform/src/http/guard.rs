//! What stands before every call: keys, and trouble on purpose.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use subtle::ConstantTimeEq as _;

use super::reply::Failure;
use crate::endpoints::Endpoints;
use crate::faults::{Decider, Fate};

type Shared = State<Arc<Endpoints>>;

/// Lets in who shows the clients' key, where there is one.
pub(super) async fn client(State(endpoints): Shared, request: Request, next: Next) -> Response {
    check(endpoints.settings().api_key.as_deref(), request, next).await
}

/// Lets in who shows the workers' key, where there is one; else the clients'.
pub(super) async fn worker(State(endpoints): Shared, request: Request, next: Next) -> Response {
    let settings = endpoints.settings();
    let key = settings.worker_key.as_ref().or(settings.api_key.as_ref());
    check(key.map(String::as_str), request, next).await
}

async fn check(key: Option<&str>, request: Request, next: Next) -> Response {
    if is_shown(key, request.headers()) {
        return next.run(request).await;
    }
    Failure::unauthorized().into_response()
}

/// Whether the clients' key is shown, where there is one.
pub(super) fn shown(endpoints: &Endpoints, headers: &HeaderMap) -> bool {
    is_shown(endpoints.settings().api_key.as_deref(), headers)
}

fn is_shown(key: Option<&str>, headers: &HeaderMap) -> bool {
    let Some(key) = key else {
        return true;
    };
    let shown = headers.get(header::AUTHORIZATION);
    let shown = shown.map_or(&b""[..], |value| value.as_bytes());
    // Clients send `Bearer <key>` or the key alone, workers the key alone.
    let shown = shown.strip_prefix(b"Bearer ").unwrap_or(shown);
    shown.ct_eq(key.as_bytes()).into()
}

/// Has calls fail as the platform was told to.
pub(super) async fn trouble(
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
