//! Checks of API keys, before a call is executed.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use subtle::ConstantTimeEq as _;

use super::extract::Shared;
use super::failure::Failure;
use crate::registry::Registry;

/// Requires the clients' API key, if one is configured.
pub(super) async fn client(State(registry): Shared, request: Request, next: Next) -> Response {
    check(registry.settings().api_key.as_deref(), request, next).await
}

/// Requires the workers' API key, which is the clients' key by default, if one is configured.
pub(super) async fn worker(State(registry): Shared, request: Request, next: Next) -> Response {
    let settings = registry.settings();
    let key = settings.worker_key.as_ref().or(settings.api_key.as_ref());
    check(key.map(String::as_str), request, next).await
}

async fn check(key: Option<&str>, request: Request, next: Next) -> Response {
    if is_shown(key, request.headers()) {
        return next.run(request).await;
    }
    Failure::unauthorized().into_response()
}

/// Returns whether a request has the clients' API key, or none is configured.
pub(super) fn shown(registry: &Registry, headers: &HeaderMap) -> bool {
    is_shown(registry.settings().api_key.as_deref(), headers)
}

fn is_shown(key: Option<&str>, headers: &HeaderMap) -> bool {
    let Some(key) = key else {
        return true;
    };
    let shown = headers.get(header::AUTHORIZATION);
    let shown = shown.map_or(&b""[..], |value| value.as_bytes());
    // Clients send `Bearer <key>` or only the key, workers only the key.
    let shown = shown.strip_prefix(b"Bearer ").unwrap_or(shown);
    shown.ct_eq(key.as_bytes()).into()
}
