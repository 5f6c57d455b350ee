//! The HTTP client of the calls. It reuses connections, and limits the time and the size of each response.
//!
//! It uses hyper-util's client directly, since every job passes through it. With reqwest, which is built on hyper-util,
//! a no-op job costs 12% to 50% more CPU time when several jobs run at once (`README.md`, "Dependencies").

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{HeaderMap, HeaderValue, LOCATION, PROXY_AUTHORIZATION};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use podwork_protocol::template::Url;

use crate::error::Error;
use crate::net::failure::reason;
use crate::net::http::chain;
use crate::net::resolver::Resolver;
use crate::net::tls;

use super::body::Body;
use super::connect::ProxyConnector;
use super::deadline::within;
use super::encoding::{Decoded, decode};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time without data after which the system checks that the other end of a connection still exists, and the time
/// between these checks. Without them, a poll on a dead connection would wait for its whole timeout.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
/// The maximum number of redirects that one call follows.
const MAX_REDIRECTS: usize = 3;
/// The maximum number of bytes to read of an error response. Its body is only an explanation.
const MAX_EXPLANATION: usize = 1024;
/// The maximum buffer to allocate for a body before it arrives, in bytes.
const MAX_PREALLOCATED: usize = 32 * 1024 * 1024;

/// An HTTP client. It belongs to the async runtime that it is used on.
#[derive(Debug, Clone)]
pub(super) struct WireClient {
    /// The current pool of connections, which all clones share.
    pool: Arc<RwLock<Arc<Pool>>>,
    connector: HttpsConnector<ProxyConnector>,
    /// The part of the connector that knows the proxies.
    proxies: ProxyConnector,
    /// The headers of every call.
    headers: HeaderMap,
}

type Pool = Client<HttpsConnector<ProxyConnector>, Body>;

/// One call as an HTTP request.
#[derive(Debug)]
pub(super) struct WireRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// The maximum time until the last byte of the response.
    pub(super) timeout: Duration,
    /// The maximum size of a successful response, in bytes.
    pub(super) limit: usize,
}

/// The response to a call.
#[derive(Debug)]
pub(super) struct WireAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The whole body of a success, or the beginning of that of an error.
    pub(super) body: Bytes,
}

impl WireClient {
    /// Creates a client that adds these headers to every call. With `tls`, CA certificates must be available. Calls for
    /// which `proxies` has no proxy go directly to the host.
    pub(super) fn new(
        headers: HeaderMap,
        tls: bool,
        proxies: Option<Matcher>,
    ) -> Result<Self, Error> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver);
        // The connector that wraps this one checks the scheme.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        let tls = if tls {
            tls::config().map_err(|why| Error::HttpClient(io::Error::other(why)))?
        } else {
            tls::trusting_nobody()
        };
        let tls = Arc::new(tls);
        let to_proxy = HttpsConnector::from((tcp.clone(), Arc::clone(&tls)));
        let proxies = ProxyConnector::new(tcp, to_proxy, proxies);
        let connector = HttpsConnector::from((proxies.clone(), tls));
        Ok(Self {
            pool: Arc::new(RwLock::new(new_pool(&connector))),
            connector,
            proxies,
            headers,
        })
    }

    /// Closes the idle connections. Open calls keep theirs, and further calls use new ones.
    pub(super) fn reconnect(&self) {
        let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
        *pool = new_pool(&self.connector);
    }

    fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.pool.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends a request. An error explains why there is no response.
    pub(super) async fn call(&self, call: WireRequest) -> Result<WireAnswer, String> {
        let timeout = call.timeout;
        // Boxed, because the future is large, and would be copied into each future that waits for it.
        let answer = within(timeout, Box::pin(self.answer(call))).await;
        answer.unwrap_or_else(|| Err(format!("no response within {timeout:?}")))
    }

    async fn answer(&self, call: WireRequest) -> Result<WireAnswer, String> {
        let WireRequest {
            method,
            url,
            headers,
            body,
            limit,
            ..
        } = call;
        let mut uri = Uri::from_maybe_shared(Bytes::from(String::from(url)))
            .map_err(|error| chain(&error))?;
        let pool = self.pool();
        let mut redirects = 0;
        loop {
            let mut request = Request::new(body.clone());
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            request.headers_mut().clone_from(&self.headers);
            request.headers_mut().extend(headers.clone());
            if let Some(authorization) = self.proxies.authorization(&uri) {
                let headers = request.headers_mut();
                headers.insert(PROXY_AUTHORIZATION, authorization);
            }
            let response = pool.request(request).await;
            let response = response.map_err(|error| reason(&error))?;
            if redirects < MAX_REDIRECTS
                && let Some(next) = redirected(&method, &uri, &response)
            {
                redirects += 1;
                uri = next;
                continue;
            }
            return read(response, limit).await;
        }
    }
}

fn new_pool(connector: &HttpsConnector<ProxyConnector>) -> Arc<Pool> {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        // Like curl, tolerate malformed headers: they must not cost a job.
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true);
    Arc::new(builder.build(connector.clone()))
}

/// Returns the target of a redirect, if it is safe to follow: it must be on the same host and must not downgrade from
/// TLS, since the call carries the API key. Redirects that would turn a POST into a GET are ignored, since they lose
/// the body.
fn redirected(method: &Method, from: &Uri, response: &Response<Incoming>) -> Option<Uri> {
    match response.status() {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {}
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND if method == Method::GET => {}
        _ => return None,
    }
    let location = response
        .headers()
        .get(LOCATION)
        .map(HeaderValue::as_bytes)?;
    let to = Uri::try_from(location).ok()?;
    let mut parts = to.into_parts();
    parts.authority = parts.authority.or_else(|| from.authority().cloned());
    parts.scheme = parts.scheme.or_else(|| from.scheme().cloned());
    let to = Uri::from_parts(parts).ok()?;
    let safe = to.scheme_str() == Some("https") || to.scheme() == from.scheme();
    (to.host() == from.host() && safe).then_some(to)
}

async fn read(response: Response<Incoming>, limit: usize) -> Result<WireAnswer, String> {
    let (parts, mut body) = response.into_parts();
    let success = parts.status.is_success();
    let limit = if success { limit } else { MAX_EXPLANATION };
    // The announced length is untrusted, so it only sets the initial capacity, up to a limit.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| chain(&error))?;
        let Ok(mut part) = frame.into_data() else {
            continue;
        };
        if whole.len() + part.len() > limit {
            if success {
                return Err(format!("the response exceeds the limit of {limit} bytes"));
            }
            part.truncate(limit - whole.len());
        }
        if whole.is_empty() && body.is_end_stream() {
            // The usual case: the body arrived in one frame.
            whole = BytesMut::from(part);
            break;
        }
        if whole.is_empty() {
            whole.reserve(announced.min(limit).min(MAX_PREALLOCATED));
        }
        whole.extend_from_slice(&part);
        if whole.len() == limit && !success {
            break;
        }
    }
    let Decoded { body, problem } = decode(&parts.headers, whole.freeze(), limit);
    if let Some(problem) = problem.filter(|_| success) {
        return Err(problem);
    }
    Ok(WireAnswer {
        status: parts.status,
        headers: parts.headers,
        body,
    })
}
