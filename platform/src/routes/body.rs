//! Bodies: requests are read within limits, and responses report whether they were written.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::failure::{Answer, Failure};
use crate::connections::{Callback, Written};
use crate::engine::Refusal;
use crate::json_text::JsonText;

/// The timeout for reading a request body.
const LONGEST: Duration = Duration::from_mins(2);

/// The size limit, in bytes, up to which a body is parsed inline.
const SMALL: usize = 128 * 1024;

/// The mark at the start of a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Limits the number of large bodies parsed at once, which leaves half of the processors to other calls.
static PARSERS: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new(processors.div_ceil(2))
});

/// Refuses compressed bodies: nothing decompresses them, so the payload limits apply to what arrives.
pub(super) async fn refuse_encoded(request: Request, next: Next) -> Response {
    let encodings = request.headers().get_all(CONTENT_ENCODING).iter();
    for encoding in encodings {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        let encoding = encoding.trim();
        if !(encoding.is_empty() || encoding.eq_ignore_ascii_case("identity")) {
            let mut response = Failure::encoded(encoding).into_response();
            let accepted = HeaderValue::from_static("identity");
            response.headers_mut().insert(ACCEPT_ENCODING, accepted);
            return response;
        }
    }
    next.run(request).await
}

/// Reads a body of at most `limit` bytes, in the pieces in which it arrives.
pub(super) async fn read(body: Body, limit: usize) -> Answer<impl Buf + Send + 'static> {
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let whole = timeout(LONGEST, Limited::new(body, limit).collect()).await;
    let whole = whole.map_err(|_| Failure::slow(LONGEST))?;
    match whole {
        Ok(whole) => Ok(whole.aggregate()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Err(error) => Err(Failure::bad(format!("request body ended early: {error}"))),
    }
}

/// Parses a JSON object. Error messages show `form` as the expected content.
pub(super) async fn object<T: DeserializeOwned + Send + 'static>(
    mut body: impl Buf + Send + 'static,
    form: &'static str,
) -> Answer<T> {
    let length = body.remaining();
    if length <= SMALL {
        return parse(&body.copy_to_bytes(length), form);
    }
    // Parsing takes milliseconds, during which other connections would wait.
    let permit = PARSERS.acquire().await;
    let parsing = spawn_blocking(move || parse(&body.copy_to_bytes(length), form));
    let parsed = parsing.await;
    drop(permit);
    parsed.unwrap_or_else(|_| Err(Failure::closing()))
}

fn parse<T: DeserializeOwned>(body: &[u8], form: &str) -> Answer<T> {
    // Some editors and shells begin UTF-8 text with a byte order mark, which is no JSON.
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let no = |why: &dyn std::fmt::Display| {
        Failure::bad(format!("invalid request body: {why}; expected {form}"))
    };
    let begins = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if begins.is_some_and(|byte| *byte != b'{') {
        // A derived `Deserialize` would also accept an array of the values.
        return Err(no(&"not a JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| no(&error))
}

fn too_large(limit: usize) -> Failure {
    Failure::from(Refusal::TooLarge(format!(
        "request body exceeds the limit of {limit} bytes"
    )))
}

/// Creates a JSON response.
pub(super) fn json(text: JsonText) -> Response {
    answer(Pieces {
        left: text.into_pieces(),
        undo: None,
        written: None,
    })
}

/// Creates a JSON response. Calls `undo` if the connection breaks before it has taken the whole body.
pub(super) fn json_or_undo(text: JsonText, undo: impl FnOnce() + Send + 'static) -> Response {
    answer(Pieces {
        left: text.into_pieces(),
        undo: Some(Box::new(undo)),
        written: None,
    })
}

/// Creates a JSON response. Calls `then` once the body is written to the connection, and drops it if that never
/// happens.
pub(super) fn json_and_then(
    text: JsonText,
    written: Written,
    then: impl FnOnce() + Send + 'static,
) -> Response {
    answer(Pieces {
        left: text.into_pieces(),
        undo: None,
        written: Some((written, Box::new(then))),
    })
}

fn answer(body: Pieces) -> Response {
    let mut response = Response::new(Body::new(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A response body in pieces.
struct Pieces {
    left: VecDeque<Bytes>,
    undo: Option<Callback>,
    written: Option<(Written, Callback)>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.left.pop_front();
        if self.left.is_empty() {
            // The connection has taken the whole body.
            self.undo = None;
            if let Some((written, then)) = self.written.take() {
                written.then(then);
            }
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.iter().map(|piece| piece.len() as u64).sum())
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if let Some(undo) = self.undo.take() {
            undo();
        }
    }
}
