//! Request bodies that are answered before they have arrived.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The maximum number of bytes to discard. A client that sends more loses the response.
const MOST_BYTES: usize = 128 * 1024 * 1024;
/// The maximum time without a byte from the client.
const QUIET: Duration = Duration::from_secs(5);
/// The maximum time for all bytes.
const LONGEST: Duration = Duration::from_secs(30);

/// Records whether the body of a connection's last request has been read to its end.
#[derive(Debug, Default)]
pub(super) struct Unread(Arc<AtomicBool>);

impl Unread {
    pub(super) fn watch(&self, body: Incoming) -> WatchedBody {
        WatchedBody {
            body,
            ended: false,
            left: Arc::clone(&self.0),
        }
    }

    pub(super) fn is_left(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request body that records on drop whether it has been read to its end.
pub(super) struct WatchedBody {
    body: Incoming,
    ended: bool,
    left: Arc<AtomicBool>,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.ended = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        let left = !self.ended && !self.body.is_end_stream();
        self.left.store(left, Ordering::Relaxed);
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
