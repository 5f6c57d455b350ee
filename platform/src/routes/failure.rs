//! Error responses in the API's format.

use std::time::Duration;

use axum::Json;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use podwork_protocol::client::ErrorBody;

use crate::engine::Refusal;

/// A response, or an error response.
pub(super) type Answer<T> = Result<T, Failure>;

/// An error response: `{"error": "…"}`.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: String,
    /// The value of `Retry-After`, in seconds.
    again: u64,
}

/// The text of an error response, as an extension of it, for answers in another format.
#[derive(Debug, Clone)]
pub(super) struct FailureText(pub(super) String);

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

    /// Creates the response for a body that did not arrive in time. The rest of the body is not read; the connection
    /// ends.
    pub(super) fn slow(limit: Duration) -> Self {
        let status = StatusCode::REQUEST_TIMEOUT;
        Self::new(status, format!("request body timed out after {limit:?}"))
    }

    pub(super) fn closing() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "the platform is shutting down")
    }

    pub(super) fn unauthorized() -> Self {
        let error = "missing or invalid API key: send `Authorization: Bearer <key>`";
        Self::new(StatusCode::UNAUTHORIZED, error)
    }

    /// Creates the response for a request from a foreign host or origin.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    pub(super) fn encoded(encoding: &str) -> Self {
        Self::unsupported(format!(
            "unsupported `Content-Encoding: {encoding}`: send the body uncompressed"
        ))
    }

    pub(super) fn on_purpose(status: StatusCode) -> Self {
        Self::new(status, "injected fault: this call fails on purpose")
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
                // The header takes whole seconds.
                again: wait.as_secs() + 1,
                ..Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate limit of this operation exceeded: retry after the time in `Retry-After`",
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
        let text = FailureText(error.clone());
        let mut response = (status, Json(ErrorBody::new(error))).into_response();
        response.extensions_mut().insert(text);
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
        format!("method not allowed: {method} {}", uri.path()),
    )
    .into_response()
}
