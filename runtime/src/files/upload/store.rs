//! The S3 client: `object_store` makes and signs the requests, and our own HTTP client sends them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpService,
};
use object_store::path::Path;
use object_store::signer::Signer as _;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use reqwest::header::{HeaderMap, HeaderValue, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Method, Request, Response, StatusCode};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::bucket::Bucket;
use crate::net::client::{AGENT, ClientSettings, FetchError, GuardedClient, causes};
use crate::net::public_only::{AddressGuard, PrivateAddress};

/// The maximum number of retries of a request.
const RETRIES: usize = 5;
/// The time in which a request may be retried. Signatures are valid for 15 minutes.
const RETRY_TIME: Duration = Duration::from_mins(10);
/// The size of the pieces of a request body, in bytes. Small pieces show whether the request makes progress.
const PIECE: usize = 64 * 1024;
/// The maximum size of a response, in bytes. Responses to uploads are short.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The HTTP client for the service of a bucket. The uploads of a job share its connections.
#[derive(Debug)]
pub(super) struct BucketClient {
    client: GuardedClient,
    idle_timeout: Duration,
}

/// The bucket as seen by one upload: it records the failures of the requests of this upload only.
#[derive(Debug)]
pub(super) struct UploadStore {
    pub(super) s3: AmazonS3,
    failure: Arc<Mutex<Option<UploadFailure>>>,
}

/// The cause of a failed request.
#[derive(Debug, Clone)]
pub(super) enum UploadFailure {
    /// The service refused the request. The rest of its response is dropped, because it may repeat secrets.
    Refused {
        status: StatusCode,
        /// The error code of the service.
        code: Option<String>,
        /// The region of the bucket, according to the service.
        region: Option<String>,
    },
    Unreachable(String),
    /// The address of the host is not public, so no connection was made.
    Private(PrivateAddress),
    /// No CA certificates could be loaded.
    Tls(String),
}

impl BucketClient {
    /// Creates a client. Blocks while it loads certificates.
    pub(super) fn new(
        bucket: &Bucket,
        guard: AddressGuard,
        idle_timeout: Duration,
    ) -> Result<Self, UploadFailure> {
        let client = GuardedClient::new(ClientSettings {
            guard,
            tls: bucket.endpoint.starts_with("https:"),
            redirects: Policy::none(),
            keep_alive: true,
        });
        match client.no_tls() {
            Some(why) => Err(UploadFailure::Tls(why.to_owned())),
            None => Ok(Self {
                client,
                idle_timeout,
            }),
        }
    }

    pub(super) fn store(&self, bucket: &Bucket) -> Result<UploadStore, UploadFailure> {
        let failure = Arc::default();
        let connections = Connections {
            client: self.client.clone(),
            idle_timeout: self.idle_timeout,
            failure: Arc::clone(&failure),
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
        // All required settings are given, so this does not fail.
        let s3 = s3.map_err(|error| UploadFailure::Unreachable(error.to_string()))?;
        Ok(UploadStore { s3, failure })
    }
}

impl UploadStore {
    /// Returns the failure of the last request, if it failed.
    pub(super) fn failure(&self) -> Option<UploadFailure> {
        let failure = self.failure.lock();
        failure.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns a signed URL, from which anyone can download the object during `lifetime`.
    pub(super) async fn url(
        &self,
        path: &Path,
        lifetime: Duration,
    ) -> object_store::Result<String> {
        let url = self.s3.signed_url(Method::GET, path, lifetime).await?;
        Ok(url.into())
    }
}

/// Sends requests, and records the failure of the last one.
#[derive(Debug, Clone)]
struct Connections {
    client: GuardedClient,
    idle_timeout: Duration,
    failure: Arc<Mutex<Option<UploadFailure>>>,
}

impl HttpConnector for Connections {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Connections {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse();
        // The URI was made from a URL, so this does not fail.
        let url = url.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let last_move = LastMove::default();
        let body = PiecewiseBody {
            whole: body,
            rest: Bytes::new(),
            last_move: last_move.clone(),
        };
        let mut request = Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        let agent = HeaderValue::from_static(AGENT);
        request.headers_mut().insert(USER_AGENT, agent);
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        let mut answer = self.ask(request, &last_move).await?;
        let body = self.read(&mut answer).await?;
        self.note(refusal(answer.status(), answer.headers(), &body));
        let mut response = HttpResponse::new(body.into());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

impl Connections {
    async fn ask(&self, request: Request, last_move: &LastMove) -> Result<Response, HttpError> {
        let mut answer = std::pin::pin!(self.client.send(request));
        loop {
            let moved = last_move.at();
            match timeout_at(moved + self.idle_timeout, &mut answer).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => {
                    let (kind, failure) = match error {
                        FetchError::Private(refused) => {
                            (HttpErrorKind::Unknown, UploadFailure::Private(refused))
                        }
                        FetchError::NoTls(why) => (HttpErrorKind::Unknown, UploadFailure::Tls(why)),
                        FetchError::Permanent(why) => {
                            (HttpErrorKind::Unknown, UploadFailure::Unreachable(why))
                        }
                        // Every request of an upload may be sent again.
                        FetchError::Failed(why) => {
                            (HttpErrorKind::Request, UploadFailure::Unreachable(why))
                        }
                    };
                    return Err(self.failed(kind, failure));
                }
                Err(_) if last_move.at() > moved => {}
                Err(_) => return Err(self.too_slow()),
            }
        }
    }

    async fn read(&self, answer: &mut Response) -> Result<Bytes, HttpError> {
        let mut whole = BytesMut::new();
        loop {
            let part = timeout(self.idle_timeout, answer.chunk()).await;
            let part = part.map_err(|_| self.too_slow())?.map_err(|error| {
                let why = UploadFailure::Unreachable(causes(&error));
                self.failed(HttpErrorKind::Request, why)
            })?;
            let Some(part) = part else {
                return Ok(whole.freeze());
            };
            if whole.len() + part.len() > LONGEST_ANSWER {
                let why = format!("the response is larger than {LONGEST_ANSWER} bytes");
                return Err(self.failed(HttpErrorKind::Unknown, UploadFailure::Unreachable(why)));
            }
            whole.extend_from_slice(&part);
        }
    }

    fn too_slow(&self) -> HttpError {
        let why = format!("no data was transferred for {:?}", self.idle_timeout);
        self.failed(HttpErrorKind::Timeout, UploadFailure::Unreachable(why))
    }

    /// Records the failure of a request without a response. `kind` decides whether `object_store` retries it.
    fn failed(&self, kind: HttpErrorKind, failure: UploadFailure) -> HttpError {
        let why = match &failure {
            UploadFailure::Unreachable(why) | UploadFailure::Tls(why) => why.clone(),
            UploadFailure::Private(refused) => refused.to_string(),
            UploadFailure::Refused { .. } => unreachable!("a refusal has a response"),
        };
        self.note(Some(failure));
        HttpError::new(kind, std::io::Error::other(why))
    }

    fn note(&self, failure: Option<UploadFailure>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

/// Returns the refusal in a response, if there is one. The response to the completion of a multipart upload may have a
/// success status and still contain an error.
fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<UploadFailure> {
    let text = String::from_utf8_lossy(body);
    if status.is_success() && !text.contains("<Error>") {
        return None;
    }
    let between = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"));
    let code = between.map(|(code, _)| code).filter(|code| is_word(code));
    let region = headers.get("x-amz-bucket-region");
    let region = region
        .and_then(|region| region.to_str().ok())
        .filter(|region| is_word(region));
    Some(UploadFailure::Refused {
        status,
        code: code.map(str::to_owned),
        region: region.map(str::to_owned),
    })
}

/// Returns whether a text is a single plain word, which is safe to show.
fn is_word(text: &str) -> bool {
    let good = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    (1..=64).contains(&text.len()) && text.chars().all(good)
}

/// The time at which a request last made progress.
#[derive(Clone)]
struct LastMove(Arc<Mutex<Instant>>);

impl Default for LastMove {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl LastMove {
    fn at(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moved(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// A request body that is sent in pieces.
struct PiecewiseBody {
    whole: HttpRequestBody,
    /// The unsent rest of the last frame of `whole`.
    rest: Bytes,
    last_move: LastMove,
}

impl Body for PiecewiseBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        self.last_move.moved();
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
