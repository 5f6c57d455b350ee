//! An HTTP server for metrics: `GET /metrics`.

use std::convert::Infallible;
use std::mem;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use crate::error::Error;

use super::format::MetricsFormat;

const PATH: &str = "/metrics";
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Maximum number of concurrent connections. Further clients wait until a connection closes.
const MOST_CONNECTIONS: usize = 16;
/// Maximum duration of a connection, which serves one request.
const LONGEST: Duration = Duration::from_secs(10);
/// The pause after a connection cannot be accepted, for example because the process has too many open files.
const PAUSE: Duration = Duration::from_millis(50);

/// A metrics server. It runs on the tokio runtime that started it, until it is dropped.
#[derive(Debug)]
pub(super) struct MetricsServer {
    _task: AbortOnDropHandle<()>,
}

impl MetricsServer {
    pub(super) fn start(listener: StdListener, registry: Arc<Registry>) -> Result<Self, Error> {
        let system = |source| Error::System {
            what: "listen for metrics requests",
            source,
        };
        listener.set_nonblocking(true).map_err(system)?;
        let listener = TcpListener::from_std(listener).map_err(system)?;
        let addr = listener.local_addr().map_err(system)?;
        info!(url = %format_args!("http://{addr}{PATH}"), "Serving metrics.");
        Ok(Self {
            _task: AbortOnDropHandle::new(tokio::spawn(accept(listener, registry))),
        })
    }
}

async fn accept(listener: TcpListener, registry: Arc<Registry>) {
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                failing = false;
                let conversing = converse(stream, Arc::clone(&registry));
                connections.spawn(tokio::time::timeout(LONGEST, conversing));
            }
            Err(error) => {
                // Log this once: the error may persist, and the next attempt follows soon.
                if !mem::replace(&mut failing, true) {
                    warn!(%error, "Could not accept a metrics connection; retrying.");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, registry: Arc<Registry>) {
    let mut http = http1::Builder::new();
    http.keep_alive(false);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, &registry);
        async { Ok::<_, Infallible>(answer) }
    });
    // If this fails, responses are only slower.
    let _ = stream.set_nodelay(true);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
        debug!(%error, "A metrics connection ended early.");
    }
}

fn answer<B>(request: &Request<B>, registry: &Registry) -> Response<Full<Bytes>> {
    let (status, format, text) = if request.uri().path() != PATH {
        let text = format!("not found: metrics are at {PATH}\n");
        (StatusCode::NOT_FOUND, TEXT, text)
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "method not allowed: use GET or HEAD\n".to_owned();
        (StatusCode::METHOD_NOT_ALLOWED, TEXT, text)
    } else {
        let format = MetricsFormat::for_accept(request.headers());
        match format.encode(registry) {
            Ok(text) => (StatusCode::OK, format.content_type(), text),
            // Only a metric that the user registered can fail.
            Err(error) => {
                let text = format!("cannot encode a metric: {error}\n");
                (StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
            }
        }
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, format);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
