//! The client of the service that has the bucket: requests and signatures are `object_store`'s, connections are ours.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpService,
};
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::bucket::Bucket;
use crate::net::http::{chain, no_tls};
use crate::net::public_only::{Guard, private};
use crate::net::tls::tls;

/// How often a request is tried again.
const RETRIES: usize = 5;
/// For how long after its first byte; signatures are good for a quarter of an hour.
const RETRY_TIME: Duration = Duration::from_mins(10);
/// Bytes that are sent at once, so that one sees them go.
const PIECE: usize = 64 * 1024;
/// Most bytes that are read of an answer: those to uploads are short.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The way to the service that has a bucket; its connections are shared by the uploads of a job.
#[derive(Debug)]
pub(super) struct Service {
    client: Hyper<HttpsConnector<Guard>, Paced>,
    patience: Duration,
}

/// The bucket as one upload knows it: so that what went wrong is told of its own requests.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) s3: AmazonS3,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

/// What went wrong with a request.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// The service refused it. Nothing else of its answer is kept: it may repeat what is not to be shown.
    Refused {
        status: StatusCode,
        /// Its own word for why.
        code: Option<String>,
        /// The region where it says that the bucket is.
        region: Option<String>,
    },
    Unreachable(String),
    /// It was not connected to; why.
    Private(String),
    /// There are no certificates to be trusted.
    Tls(String),
}

impl Service {
    /// May load certificates, and so block.
    pub(super) fn new(bucket: &Bucket, guard: Guard, patience: Duration) -> Result<Self, Trouble> {
        let tls = if bucket.endpoint.starts_with("https:") {
            tls().map_err(Trouble::Tls)?
        } else {
            Arc::new(no_tls())
        };
        let client = Hyper::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build(HttpsConnector::from((guard, tls)));
        Ok(Self { client, patience })
    }

    pub(super) fn store(&self, bucket: &Bucket) -> Result<Store, Trouble> {
        let trouble = Arc::default();
        let connections = Connections {
            client: self.client.clone(),
            patience: self.patience,
            trouble: Arc::clone(&trouble),
        };
        let s3 = AmazonS3Builder::new()
            .with_endpoint(&bucket.endpoint)
            .with_virtual_hosted_style_request(bucket.virtual_hosted)
            .with_bucket_name(&bucket.name)
            .with_region(&bucket.region)
            .with_access_key_id(&bucket.keys.id)
            .with_secret_access_key(&bucket.keys.secret)
            .with_retry(RetryConfig {
                backoff: BackoffConfig {
                    init_backoff: Duration::from_millis(200),
                    max_backoff: Duration::from_secs(5),
                    base: 2.0,
                },
                max_retries: RETRIES,
                retry_timeout: RETRY_TIME,
            })
            .with_http_connector(connections)
            .build();
        // It has all that it asks for.
        let s3 = s3.map_err(|error| Trouble::Unreachable(error.to_string()))?;
        Ok(Store { s3, trouble })
    }
}

impl Store {
    /// What was wrong with the last request.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The URL by which anybody can get what is there, for so long.
    pub(super) async fn url(
        &self,
        path: &Path,
        lifetime: Duration,
    ) -> object_store::Result<String> {
        let url = self.s3.signed_url(Method::GET, path, lifetime).await?;
        Ok(url.into())
    }
}

/// Sends requests, and remembers what was wrong with the last.
#[derive(Clone)]
struct Connections {
    client: Hyper<HttpsConnector<Guard>, Paced>,
    patience: Duration,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl HttpConnector for Connections {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connections {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = request.into_parts();
        parts
            .headers
            .insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let pace = Pace::default();
        let body = Paced {
            whole: body,
            rest: Bytes::new(),
            pace: pace.clone(),
        };
        let answer = self.ask(Request::from_parts(parts, body), &pace).await?;
        let (parts, body) = answer.into_parts();
        let body = self.read(body).await?;
        self.note(refusal(&parts, &body));
        Ok(Response::from_parts(parts, body.into()))
    }
}

const AGENT: &str = concat!("podwork/", env!("CARGO_PKG_VERSION"));

impl Connections {
    async fn ask(
        &self,
        request: Request<Paced>,
        pace: &Pace,
    ) -> Result<Response<Incoming>, HttpError> {
        let mut answer = std::pin::pin!(self.client.request(request));
        loop {
            let moved = pace.last();
            match timeout_at(moved + self.patience, &mut answer).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => {
                    if let Some(refused) = private(&error) {
                        return Err(self.failed(HttpErrorKind::Unknown, Trouble::Private(refused)));
                    }
                    let why = Trouble::Unreachable(chain(&error));
                    // Whatever an upload sends may be sent again.
                    return Err(self.failed(HttpErrorKind::Request, why));
                }
                Err(_) if pace.last() > moved => {}
                Err(_) => return Err(self.too_slow()),
            }
        }
    }

    async fn read(&self, mut body: Incoming) -> Result<Bytes, HttpError> {
        let mut whole = BytesMut::new();
        loop {
            let frame = timeout(self.patience, body.frame()).await;
            let Some(frame) = frame.map_err(|_| self.too_slow())? else {
                return Ok(whole.freeze());
            };
            let frame = frame.map_err(|error| {
                self.failed(HttpErrorKind::Request, Trouble::Unreachable(chain(&error)))
            })?;
            let part = frame.into_data().unwrap_or_default();
            if whole.len() + part.len() > LONGEST_ANSWER {
                let why = format!("its answer is over {LONGEST_ANSWER} bytes");
                return Err(self.failed(HttpErrorKind::Unknown, Trouble::Unreachable(why)));
            }
            whole.extend_from_slice(&part);
        }
    }

    fn too_slow(&self) -> HttpError {
        let why = format!("nothing moved for {:?}", self.patience);
        self.failed(HttpErrorKind::Timeout, Trouble::Unreachable(why))
    }

    fn failed(&self, kind: HttpErrorKind, trouble: Trouble) -> HttpError {
        let (Trouble::Unreachable(why) | Trouble::Private(why) | Trouble::Tls(why)) = &trouble
        else {
            unreachable!("a refusal is an answer");
        };
        let error = HttpError::new(kind, std::io::Error::other(why.clone()));
        self.note(Some(trouble));
        error
    }

    fn note(&self, trouble: Option<Trouble>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// What an answer refuses, if it does: an answer to the end of an upload may be a success at first, and then an error.
fn refusal(parts: &hyper::http::response::Parts, body: &[u8]) -> Option<Trouble> {
    let text = String::from_utf8_lossy(body);
    if parts.status.is_success() && !text.contains("<Error>") {
        return None;
    }
    let between = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"));
    let code = between.map(|(code, _)| code).filter(|code| is_word(code));
    let region = parts.headers.get("x-amz-bucket-region");
    let region = region
        .and_then(|region| region.to_str().ok())
        .filter(|region| is_word(region));
    Some(Trouble::Refused {
        status: parts.status,
        code: code.map(str::to_owned),
        region: region.map(str::to_owned),
    })
}

/// Whether it is so plain that nothing can hide in it.
fn is_word(text: &str) -> bool {
    let good = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    (1..=64).contains(&text.len()) && text.chars().all(good)
}

/// When a request last moved on.
#[derive(Clone)]
struct Pace(Arc<Mutex<Instant>>);

impl Default for Pace {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Pace {
    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// What is sent, piece by piece.
struct Paced {
    whole: HttpRequestBody,
    /// What is left of what came of it.
    rest: Bytes,
    pace: Pace,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.pace.moved();
        while self.rest.is_empty() {
            match Pin::new(&mut self.whole).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => self.rest = bytes,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return other,
            }
        }
        let size = PIECE.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.whole.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        match self.whole.size_hint().exact() {
            Some(whole) => SizeHint::with_exact(whole + rest),
            None => SizeHint::default(),
        }
    }
}
