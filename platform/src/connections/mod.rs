//! TCP connections: accept, serve, and shut down.

mod listen;
mod unread;
mod written;

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(crate) use listen::listen;
use unread::{Unread, discard};
use written::Flushes;
pub(crate) use written::{Callback, Written};

/// The timeout for a request's head, from the end of the request before. It is longer than clients keep idle
/// connections (90 s or less), so that the client closes them.
const HEAD: Duration = Duration::from_mins(2);
/// The pause after a failed accept, for example because the process has too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves connections on all listeners until `closing` is cancelled. Each returned task ends with the last connection of
/// its listener.
pub(crate) fn serve(
    listeners: Vec<TcpListener>,
    router: &Router,
    closing: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let listeners = listeners.into_iter();
    let serving = listeners.map(|listener| accept(listener, router.clone(), closing.clone()));
    serving.map(tokio::spawn).collect()
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
    let (written, unread) = (Written::default(), Unread::default());
    let mut io = Flushes {
        io: stream,
        written: written.clone(),
    };
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        let waits = request.headers().contains_key(header::EXPECT);
        let mut request = request.map(|body| unread.watch(body));
        request.extensions_mut().insert(written.clone());
        let (answering, unread) = (router.call(request), unread.clone());
        async move {
            let mut response = answering.await?;
            if !unread.is_drained(waits).await {
                let headers = response.headers_mut();
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let ended = {
        let mut connection = pin!(http.serve_connection(TokioIo::new(&mut io), service));
        tokio::select! {
            ended = &mut connection => ended,
            () = closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    match ended {
        // The response has been written before the whole body has arrived, for example because it is too large.
        Ok(()) if unread.is_left() => discard(io.io).await,
        Ok(()) => {}
        Err(error) => {
            debug!(%error, "Connection ended early.");
            // It has been answered, for example with 431.
            if error.is_parse() {
                discard(io.io).await;
            }
        }
    }
}
