//! Checks of API keys, before a call is executed.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::extract::Shared;
use super::failure::Failure;
use crate::api_key::ApiKey;
use crate::registry::Registry;

/// Requires the clients' API key, if one is configured.
pub(super) async fn client(State(registry): Shared, request: Request, next: Next) -> Response {
    check(registry.settings().api_key.as_ref(), request, next).await
}

/// Requires the workers' API key, which is the clients' key by default, if one is configured.
pub(super) async fn worker(State(registry): Shared, request: Request, next: Next) -> Response {
    check(registry.settings().key_of_workers(), request, next).await
}

async fn check(key: Option<&ApiKey>, request: Request, next: Next) -> Response {
    if is_shown(key, request.headers()) {
        return next.run(request).await;
    }
    Failure::unauthorized().into_response()
}

/// Returns whether a request has the clients' API key, or none is configured.
pub(super) fn shown(registry: &Registry, headers: &HeaderMap) -> bool {
    is_shown(registry.settings().api_key.as_ref(), headers)
}

fn is_shown(key: Option<&ApiKey>, headers: &HeaderMap) -> bool {
    // Clients send `Bearer <key>` or only the key, workers only the key.
    let shown = headers.get(header::AUTHORIZATION);
    key.is_none_or(|key| shown.is_some_and(|shown| key.is_in(shown.as_bytes())))
}
