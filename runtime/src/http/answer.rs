//! JSON responses.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

/// The body of a response.
pub(super) type Answered = Full<Bytes>;

/// Returns a response with this body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Answered> {
    // Serialization never fails: bodies consist of strings and raw JSON.
    let text = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(CONTENT_TYPE, json);
    if matches!(status.as_u16(), 429 | 503) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Returns an error response with the reason why there is no result.
pub(super) fn refused(status: StatusCode, problem: &str) -> Response<Answered> {
    json(status, &json!({ "error": problem }))
}
