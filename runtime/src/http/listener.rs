//! The HTTP server for realtime calls. It limits the number of connections and shuts down gracefully.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::error::Error;

use super::realtime::Calls;

/// The maximum number of open connections. A further one waits until another ends.
const MAX_CONNECTIONS: usize = 1024;
/// The maximum time until the head of a request has arrived, counted from the end of the previous request. It is longer
/// than clients keep idle connections, so that the clients close them.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);
/// The delay after a failure to accept a connection, which happens when the process has too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// A bound port.
pub(super) struct Listener {
    listener: TcpListener,
    addr: SocketAddr,
}

/// A running server. Dropping it stops it immediately.
pub(super) struct CallServer {
    accepting: AbortOnDropHandle<GracefulShutdown>,
}

impl Listener {
    pub(super) async fn bind(host: &str, port: u16) -> Result<Self, Error> {
        let bound = async {
            let listener = TcpListener::bind((host, port)).await?;
            let addr = listener.local_addr()?;
            Ok(Self { listener, addr })
        };
        bound.await.map_err(|source| Error::Listen {
            address: format!("{host}:{port}"),
            source,
        })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Accepts connections until `stop` is cancelled.
    pub(super) fn serve(self, calls: Arc<Calls>, stop: CancellationToken) -> CallServer {
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(self.listener, calls, stop)));
        CallServer { accepting }
    }
}

impl CallServer {
    /// Waits until all connections have written their last responses, but no longer than `limit`.
    pub(super) async fn end(self, limit: Duration) {
        let ending = async {
            if let Ok(connections) = self.accepting.await {
                connections.shutdown().await;
            }
        };
        if timeout(limit, ending).await.is_err() {
            warn!(
                limit_ms = limit.as_millis(),
                "Timed out writing the last responses; they are lost."
            );
        }
    }
}

async fn accept(
    listener: TcpListener,
    calls: Arc<Calls>,
    stop: CancellationToken,
) -> GracefulShutdown {
    let connections = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let Some((permit, accepted)) = stop.run_until_cancelled(next).await else {
            return connections;
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "Failed to accept a connection; retrying.");
                stop.run_until_cancelled(sleep(PAUSE)).await;
                continue;
            }
        };
        // Nagle's algorithm would delay responses. Without this option they are only slower.
        let _ = stream.set_nodelay(true);
        let calls = Arc::clone(&calls);
        let service = service_fn(move |request| {
            let calls = Arc::clone(&calls);
            async move { Ok::<_, Infallible>(calls.answer(request).await) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT);
        let serving = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(error) = serving.await {
                debug!(%error, "Connection ended early.");
            }
        });
    }
}
