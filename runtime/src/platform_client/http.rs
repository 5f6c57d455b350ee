//! The HTTP client of the calls: connections that are kept, one answer a call, bounded in time and size.
//!
//! It is hyper-util's client, on the way that each job takes. By reqwest, which is built on it, a no-op job costs an
//! eighth to a half more CPU, where several run at once (`README.md`, "Dependencies").

use std::io;
use std::sync::Arc;
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
use crate::net::http::chain;
use crate::net::tls;

use super::body::Body;
use super::connect::ProxyConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most times that one call is sent elsewhere.
const MAX_REDIRECTS: usize = 3;
/// Most that is read of an answer that is no success, in bytes: it only explains itself.
const MAX_EXPLANATION: usize = 1024;
/// Most that is set aside for a body before it comes, in bytes.
const MAX_PREALLOCATED: usize = 32 * 1024 * 1024;

/// A client, which belongs to the runtime that it is used on.
#[derive(Debug, Clone)]
pub(super) struct WireClient {
    client: Client<HttpsConnector<ProxyConnector>, Body>,
    connector: ProxyConnector,
    /// The headers of every call.
    headers: HeaderMap,
}

/// One call as HTTP carries it.
#[derive(Debug)]
pub(super) struct WireRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// How long the answer may take, to its last byte.
    pub(super) timeout: Duration,
    /// The largest successful answer, in bytes.
    pub(super) limit: usize,
}

/// The answer to a call.
#[derive(Debug)]
pub(super) struct WireAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Whole for a success, else its beginning.
    pub(super) body: Bytes,
}

impl WireClient {
    /// Makes a client that puts these headers on every call. With `tls`, certificates have to be there. Calls go directly
    /// where `proxies` names none for them.
    pub(super) fn new(
        headers: HeaderMap,
        tls: bool,
        proxies: Option<Matcher>,
    ) -> Result<Self, Error> {
        let mut tcp = HttpConnector::new();
        // The scheme is for the connector around it to look at.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = if tls {
            tls::config().map_err(|why| Error::HttpClient(io::Error::other(why)))?
        } else {
            tls::trusting_nobody()
        };
        let tls = Arc::new(tls);
        let to_proxy = HttpsConnector::from((tcp.clone(), Arc::clone(&tls)));
        let connector = ProxyConnector::new(tcp, to_proxy, proxies);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(HttpsConnector::from((connector.clone(), tls)));
        Ok(Self {
            client,
            connector,
            headers,
        })
    }

    /// Makes a call; an error says why there is no answer.
    pub(super) async fn call(&self, call: WireRequest) -> Result<WireAnswer, String> {
        let timeout = call.timeout;
        match tokio::time::timeout(timeout, self.answer(call)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {timeout:?}")),
        }
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
        let mut redirects = 0;
        loop {
            let mut request = Request::new(body.clone());
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.clone();
            request.headers_mut().clone_from(&self.headers);
            request.headers_mut().extend(headers.clone());
            if let Some(authorization) = self.connector.authorization(&uri) {
                let headers = request.headers_mut();
                headers.insert(PROXY_AUTHORIZATION, authorization);
            }
            let response = self.client.request(request).await;
            let response = response.map_err(|error| chain(&error))?;
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

/// Where the same call is to be sent instead: to the same host, and never from TLS to none, since it carries the key.
/// Redirects that would turn a post into a get are none for us: what was posted would be lost.
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
    // What is announced is only believed so far: it may be anything.
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| chain(&error))?;
        let Ok(mut part) = frame.into_data() else {
            continue;
        };
        if whole.len() + part.len() > limit {
            if success {
                return Err(format!("the answer is over {limit} bytes"));
            }
            part.truncate(limit - whole.len());
        }
        if whole.is_empty() && body.is_end_stream() {
            // The usual case: it came in one piece.
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
    Ok(WireAnswer {
        status: parts.status,
        headers: parts.headers,
        body: whole.freeze(),
    })
}
