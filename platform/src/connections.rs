//! TCP connections: accept, serve, and shut down.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::error::Error;

/// The timeout for a request's head, from the end of the request before. It is longer than clients keep idle
/// connections (90 s or less), so that the client closes them.
const HEAD: Duration = Duration::from_mins(2);
/// The length of the accept queue; the operating system may reduce it. `TcpListener::bind` uses 128, and if more
/// clients connect at once, the rest wait for a second.
const BACKLOG: u32 = 4096;
/// The pause after a failed accept, for example because the process has too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens on the address, and serves connections until `closing` is cancelled. The returned task ends with the last
/// connection.
pub(crate) async fn serve(
    host: &str,
    port: u16,
    router: Router,
    closing: CancellationToken,
) -> Result<(SocketAddr, JoinHandle<()>), Error> {
    let bind = |reason: io::Error| Error::Bind {
        address: format!("{host}:{port}"),
        cure: match reason.kind() {
            io::ErrorKind::AddrInUse => {
                "stop the program that uses this port, or choose another port"
            }
            io::ErrorKind::PermissionDenied => "choose a port above 1023",
            _ => "choose a host name or address of this machine",
        },
        reason,
    };
    let listener = listen(host, port).await.map_err(bind)?;
    let addr = listener.local_addr().map_err(bind)?;
    Ok((addr, tokio::spawn(accept(listener, router, closing))))
}

/// Listens on the first of the host's addresses for which that succeeds.
async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut refused = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for addr in lookup_host((host, port)).await? {
        let listening = (|| {
            let socket = match addr {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            // On Windows it would let two programs listen on the same port.
            #[cfg(unix)]
            socket.set_reuseaddr(true)?;
            socket.bind(addr)?;
            socket.listen(BACKLOG)
        })();
        match listening {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

async fn accept(listener: TcpListener, router: Router, closing: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, router.clone(), closing.clone()));
            }
            Err(error) => {
                warn!(%error, "Failed to accept a connection; retrying.");
                closing.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        }
    }
    // New connections are refused from here on.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until it ends. When the platform shuts down, finishes the requests received so far.
async fn converse(stream: TcpStream, router: Router, closing: CancellationToken) {
    // Nagle's algorithm would delay small responses. A failure to disable it only costs time.
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD);
    let written = Written::default();
    let io = TokioIo::new(Flushes {
        io: stream,
        written: written.clone(),
    });
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(written.clone());
        router.call(request)
    });
    let mut connection = pin!(http.serve_connection(io, service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "Connection ended early.");
    }
}

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
struct Flushes {
    io: TcpStream,
    written: Written,
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
