//! Bodies: read within bounds, and written so that what does not arrive is not lost.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::failure::Failure;
use crate::engine::Refusal;

/// How long a body may take to arrive.
const LONGEST: Duration = Duration::from_mins(2);

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(body: Body, limit: usize) -> Result<Bytes, Failure> {
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let whole = timeout(LONGEST, axum::body::to_bytes(body, limit)).await;
    let whole = whole.map_err(|_| Failure::slow(LONGEST))?;
    whole.map_err(|error| match std::error::Error::source(&error) {
        Some(cause) if cause.is::<http_body_util::LengthLimitError>() => too_large(limit),
        _ => Failure::bad(format!("the body ended early: {error}")),
    })
}

/// Reads a JSON object. Its form is for people, who are told of it where it is another.
pub(super) fn object<T: DeserializeOwned>(body: &[u8], form: &str) -> Result<T, Failure> {
    let no = |why: &dyn std::fmt::Display| Failure::bad(format!("the body is not {form}: {why}"));
    let begins = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if begins.is_some_and(|byte| *byte != b'{') {
        // A list of the values alone would do for a derived `Deserialize`.
        return Err(no(&"it is no JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| no(&error))
}

fn too_large(limit: usize) -> Failure {
    Failure::from(Refusal::TooLarge(format!(
        "the body is over the limit of {limit} bytes"
    )))
}

/// A JSON answer; when the connection breaks before it is written, `undo` puts back what it carries.
pub(super) fn json_or_undo(
    value: &impl Serialize,
    undo: impl FnOnce() + Send + 'static,
) -> Response {
    // Answers are structs of strings, numbers and raw JSON, which always serialise.
    let bytes = serde_json::to_vec(value).unwrap_or_default().into();
    let body = Undoing {
        bytes: Some(bytes),
        undo: Some(Box::new(undo)),
    };
    let mut response = Response::new(Body::new(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

struct Undoing {
    bytes: Option<Bytes>,
    undo: Option<Box<dyn FnOnce() + Send>>,
}

impl HttpBody for Undoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // Now it is in the connection's hands.
        self.undo = None;
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

impl Drop for Undoing {
    fn drop(&mut self) {
        if let Some(undo) = self.undo.take() {
            undo();
        }
    }
}
