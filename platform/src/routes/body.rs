//! Bodies: read within bounds, and written so that what does not arrive is not lost.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
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

/// How long a body may take to arrive.
const LONGEST: Duration = Duration::from_mins(2);

/// Bodies up to this many bytes are parsed where they are read.
const SMALL: usize = 128 * 1024;

/// As many large bodies are parsed at once as leave half of the processors to other calls.
static PARSERS: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new(processors.div_ceil(2))
});

/// Reads a body of at most `limit` bytes, in the pieces in which it comes.
pub(super) async fn read(body: Body, limit: usize) -> Answer<impl Buf + Send + 'static> {
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    let whole = timeout(LONGEST, Limited::new(body, limit).collect()).await;
    let whole = whole.map_err(|_| Failure::slow(LONGEST))?;
    match whole {
        Ok(whole) => Ok(whole.aggregate()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Err(error) => Err(Failure::bad(format!("the body ended early: {error}"))),
    }
}

/// Reads a JSON object. Its form is for people, who are told of it where it is another.
pub(super) async fn object<T: DeserializeOwned + Send + 'static>(
    mut body: impl Buf + Send + 'static,
    form: &'static str,
) -> Answer<T> {
    let length = body.remaining();
    if length <= SMALL {
        return parse(&body.copy_to_bytes(length), form);
    }
    // It takes milliseconds, in which other connections would wait.
    let permit = PARSERS.acquire().await;
    let parsing = spawn_blocking(move || parse(&body.copy_to_bytes(length), form));
    let parsed = parsing.await;
    drop(permit);
    parsed.unwrap_or_else(|_| Err(Failure::closing()))
}

fn parse<T: DeserializeOwned>(body: &[u8], form: &str) -> Answer<T> {
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

/// The answer to a JSON text.
pub(super) fn json(text: JsonText) -> Response {
    answer(Pieces {
        left: text.into_pieces(),
        undo: None,
        written: None,
    })
}

/// A JSON answer; when the connection breaks before the last of it is handed over, `undo` puts back what it carries.
pub(super) fn json_or_undo(text: JsonText, undo: impl FnOnce() + Send + 'static) -> Response {
    answer(Pieces {
        left: text.into_pieces(),
        undo: Some(Box::new(undo)),
        written: None,
    })
}

/// A JSON answer; `then` is called once it is written to the connection, and dropped if it never is.
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

/// A body in pieces, as the connection takes them.
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
            // Now it is in the connection's hands.
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
