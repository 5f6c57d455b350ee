//! Request bodies that are answered before they have arrived.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The maximum size of a body that is read before its early response, in bytes, so that the connection can be kept.
const SMALL: usize = 64 * 1024;
/// The maximum time by which this delays the response.
const SHORT: Duration = Duration::from_millis(200);
/// The maximum number of bytes to discard. A client that sends more loses the response.
const MOST_BYTES: usize = 128 * 1024 * 1024;
/// The maximum time without a byte from the client.
const QUIET: Duration = Duration::from_secs(5);
/// The maximum time for all bytes.
const LONGEST: Duration = Duration::from_secs(30);

/// The body of a connection's last request, as far as it has not been read.
#[derive(Debug, Default, Clone)]
pub(super) struct Unread(Arc<Mutex<Left>>);

#[derive(Debug, Default)]
enum Left {
    #[default]
    Nothing,
    /// The handler has dropped the body.
    Dropped(Incoming),
    /// The response says that the connection closes.
    Closing,
}

impl Unread {
    pub(super) fn watch(&self, body: Incoming) -> WatchedBody {
        WatchedBody {
            body: Some(body),
            ended: false,
            left: self.clone(),
        }
    }

    pub(super) fn is_left(&self) -> bool {
        !matches!(*self.left(), Left::Nothing)
    }

    /// Reads what is left of the body if it is small and arrives soon. Returns whether the connection can be kept. A
    /// client that `waits` for a response or for `100 Continue` does not send its body before.
    pub(super) async fn is_drained(&self, waits: bool) -> bool {
        let left = std::mem::take(&mut *self.left());
        let Left::Dropped(body) = left else {
            return true;
        };
        if !waits && matches!(timeout(SHORT, read_small(body)).await, Ok(true)) {
            return true;
        }
        *self.left() = Left::Closing;
        false
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a small body. Returns whether it has reached its end.
async fn read_small(mut body: Incoming) -> bool {
    let mut left = SMALL;
    while body.size_hint().lower() <= left as u64 {
        match body.frame().await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => {
                let read = frame.data_ref().map_or(0, Bytes::len);
                let Some(rest) = left.checked_sub(read) else {
                    return false;
                };
                left = rest;
            }
        }
    }
    false
}

/// A request body that is kept when it is dropped before its end.
pub(super) struct WatchedBody {
    /// Absent only while this is dropped.
    body: Option<Incoming>,
    ended: bool,
    left: Unread,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        self.ended = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map(Incoming::size_hint)
            .unwrap_or_default()
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        if !self.ended
            && let Some(body) = self.body.take().filter(|body| !body.is_end_stream())
        {
            *self.left.left() = Left::Dropped(body);
        }
    }
}

/// Discards what the client still sends, up to a limit, and closes the connection. Many clients read the response only
/// after they have sent the whole body, and the operating system resets a connection that is closed before.
pub(super) async fn discard(mut stream: TcpStream) {
    let discarding = async {
        // The client learns that it need not send the rest.
        stream.shutdown().await?;
        let mut buffer = vec![0; 16 * 1024];
        let mut left = MOST_BYTES;
        while left > 0 {
            match timeout(QUIET, stream.read(&mut buffer)).await {
                Ok(read @ Ok(1..)) => left = left.saturating_sub(read?),
                _ => break,
            }
        }
        io::Result::Ok(())
    };
    // An error means that the client has closed the connection first.
    let _ = timeout(LONGEST, discarding).await;
}
