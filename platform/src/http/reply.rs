//! Answers, and refusals in their one form.

use axum::Json;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use podwork_protocol::client::ErrorBody;

use crate::core::Refusal;

/// A refusal on its way to the other side: `{"error": "…"}`.
#[derive(Debug)]
pub(super) struct Failure(StatusCode, String);

impl Failure {
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }

    pub(super) fn closing() -> Self {
        Self(
            StatusCode::SERVICE_UNAVAILABLE,
            "the platform is shutting down".to_owned(),
        )
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(why) => Self(StatusCode::NOT_FOUND, why),
            Refusal::Bad(why) => Self(StatusCode::BAD_REQUEST, why),
            Refusal::Conflict(why) => Self(StatusCode::CONFLICT, why),
            Refusal::TooLarge(why) => Self(StatusCode::PAYLOAD_TOO_LARGE, why),
            Refusal::Full(why) => Self(StatusCode::TOO_MANY_REQUESTS, why),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(status, error) = self;
        let mut response = (status, Json(ErrorBody { error })).into_response();
        if status == StatusCode::TOO_MANY_REQUESTS {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    Failure(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not answer to {method}", uri.path()),
    )
    .into_response()
}
