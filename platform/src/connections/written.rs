//! Callbacks for written responses.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Callbacks for written responses of one connection, an extension of each of its requests.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<Callback>>>);

pub(crate) type Callback = Box<dyn FnOnce() + Send>;

impl Written {
    /// Calls `call` once all bytes handed over so far, and the piece being handed over, are written. Drops it if the
    /// connection ends before.
    pub(crate) fn then(&self, call: Callback) {
        self.callbacks().push(call);
    }

    fn callbacks(&self) -> MutexGuard<'_, Vec<Callback>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that detects when all its bytes are written, since hyper flushes it only then.
pub(super) struct Flushes {
    pub(super) io: TcpStream,
    pub(super) written: Written,
}

impl AsyncRead for Flushes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Flushes {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        let calls = std::mem::take(&mut *self.written.callbacks());
        for call in calls {
            call();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
