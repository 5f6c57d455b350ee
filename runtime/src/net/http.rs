//! The HTTP client: connections that are kept, one answer a call, bounded in time and size.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use podwork_protocol::template::Url;

use crate::error::Error;
use crate::net::tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most times that one call is sent elsewhere.
const MAX_REDIRECTS: usize = 3;
/// Most that is read of an answer that is no success, in bytes: it only explains itself.
const MAX_EXPLANATION: usize = 1024;
/// Most that is set aside for a body before it comes, in bytes.
const MAX_PREALLOCATED: usize = 32 * 1024 * 1024;

/// A client, which belongs to the runtime that it is used on.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    /// On every call.
    headers: HeaderMap,
}

/// What is asked.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// How long the answer may take, to its last byte.
    pub(crate) timeout: Duration,
    /// Most bytes of a successful answer.
    pub(crate) limit: usize,
}

/// What is sent along, in parts that follow one another: what is large need not be copied to be put into an envelope.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body([Bytes; 3]);

impl From<Vec<u8>> for Body {
    fn from(whole: Vec<u8>) -> Self {
        Self([whole.into(), Bytes::new(), Bytes::new()])
    }
}

impl From<[Bytes; 3]> for Body {
    fn from(parts: [Bytes; 3]) -> Self {
        Self(parts)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.0.iter_mut().find(|part| !part.is_empty());
        Poll::Ready(part.map(|part| Ok(Frame::data(std::mem::take(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}

/// What comes back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Whole for a success, else its beginning.
    pub(crate) body: Bytes,
}

impl Http {
    /// A client that puts these headers on every call; `tls`: certificates are needed, and have to be there.
    pub(crate) fn new(headers: HeaderMap, tls: bool) -> Result<Self, Error> {
        let mut connector = HttpConnector::new();
        // The scheme is the connector's around it to look at.
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = if tls {
            tls::config().map_err(|why| Error::HttpClient(io::Error::other(why)))?
        } else {
            tls::trusting_nobody()
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Self { client, headers })
    }

    /// Makes a call; an error says why there is no answer.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, String> {
        let timeout = call.timeout;
        match tokio::time::timeout(timeout, self.answer(call)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {timeout:?}")),
        }
    }

    async fn answer(&self, call: Call) -> Result<Answer, String> {
        let Call {
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

async fn read(response: Response<Incoming>, limit: usize) -> Result<Answer, String> {
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
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body: whole.freeze(),
    })
}

/// The pause that an answer asks for in seconds; one that names a date is not understood.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut why = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        why = format!("{why}: {deeper}");
        cause = deeper.source();
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_seconds() {
        let headers =
            |value: &'static str| HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
        assert_eq!(retry_after(&headers("7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers("Wed, 21 Oct 2026 07:28:00 GMT")), None);
    }
}
