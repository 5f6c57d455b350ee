//! Answers, and refusals in their one form.

use std::time::Duration;

use axum::Json;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use podwork_protocol::client::ErrorBody;

use crate::engine::Refusal;

/// An answer, or a refusal.
pub(super) type Answer<T> = Result<T, Failure>;

/// A refusal on its way to the other side: `{"error": "…"}`.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: String,
    /// Seconds, for `Retry-After`.
    again: u64,
}

impl Failure {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            again: 1,
        }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A body did not arrive in time. The rest of it is not waited for: the connection ends.
    pub(super) fn slow(limit: Duration) -> Self {
        let status = StatusCode::REQUEST_TIMEOUT;
        Self::new(status, format!("the body did not arrive within {limit:?}"))
    }

    pub(super) fn closing() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "the platform is shutting down")
    }

    pub(super) fn unauthorized() -> Self {
        let error = "the key is missing or wrong: send `Authorization: Bearer <key>`";
        Self::new(StatusCode::UNAUTHORIZED, error)
    }

    pub(super) fn on_purpose(status: StatusCode) -> Self {
        Self::new(status, "this platform was told to fail some calls")
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(why) => Self::new(StatusCode::NOT_FOUND, why),
            Refusal::Bad(why) => Self::new(StatusCode::BAD_REQUEST, why),
            Refusal::Conflict(why) => Self::new(StatusCode::CONFLICT, why),
            Refusal::TooLarge(why) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, why),
            Refusal::Full(why) => Self::new(StatusCode::TOO_MANY_REQUESTS, why),
            Refusal::Often(wait) => Self {
                // The header has whole seconds.
                again: wait.as_secs() + 1,
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "this operation is called more often than its rate limit allows",
                )
            },
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self {
            status,
            error,
            again,
        } = self;
        let mut response = (status, Json(ErrorBody::new(error))).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, again.into());
        }
        response
    }
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not answer to {method}", uri.path()),
    )
    .into_response()
}
