//! Checks of hosts and origins before a call is executed, and the answers that browser apps need.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tower_http::cors::{AllowHeaders, CorsLayer};

use super::extract::Shared;
use super::failure::Failure;

/// The time for which browsers remember what an app may do.
const MAX_AGE: Duration = Duration::from_mins(10);

/// Refuses requests that name a foreign host, and those of foreign origins' pages.
pub(super) async fn check(State(registry): Shared, request: Request, next: Next) -> Response {
    let guard = &registry.settings().guard;
    match guard.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => Failure::forbidden(why).into_response(),
    }
}

/// Refuses the requests that links, images and forms of other sites send. Not for pages, to which any site may link.
pub(super) async fn check_site(State(registry): Shared, request: Request, next: Next) -> Response {
    match registry.settings().guard.check_site(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => Failure::forbidden(why).into_response(),
    }
}

/// Answers the browsers of the allowed apps: preflight requests, which have no key, and the headers without which an
/// app cannot read a response.
pub(super) fn cors(origins: &[HeaderValue]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(origins.to_vec())
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([RETRY_AFTER])
        .max_age(MAX_AGE)
}
