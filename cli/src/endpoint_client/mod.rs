//! The client of an endpoint.

mod address;
mod answer;
mod failure;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use backon::{ExponentialBuilder, Retryable as _};
use podwork_protocol::client::{Health, JobState, RunRequest, StatusResponse, StreamResponse};
use podwork_protocol::{RawValue, without_bom};
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT,
};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Client, Method, Request, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use address::Address;
pub(crate) use address::RUNPOD_HOST;
use answer::MAX_ANSWER;
pub(crate) use answer::RefusedCall;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit on the time of one call. It is longer than the platform delays any answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(100);
/// The time after which a failed call is not retried any more.
const PATIENCE: Duration = Duration::from_mins(1);
/// The maximum number of redirects of one call.
const MAX_REDIRECTS: usize = 5;

/// The client of one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct EndpointClient {
    address: Address,
    http: Client,
    /// The number of bytes that successful answers have brought.
    received: Arc<AtomicUsize>,
}

/// A call that failed.
#[derive(Debug)]
pub(crate) struct FailedCall {
    pub(crate) error: anyhow::Error,
    /// The minimum pause before a retry. `None`: a retry would not help.
    pub(crate) retry: Option<Duration>,
}

impl FailedCall {
    fn permanent(error: impl Into<anyhow::Error>) -> Self {
        Self {
            error: error.into(),
            retry: None,
        }
    }
}

impl EndpointClient {
    /// Returns the client for a URL, or for the id of an endpoint at Runpod.
    pub(crate) fn new(endpoint: &str, key: Option<&str>) -> Result<Self> {
        let address = Address::parse(endpoint)?;
        let mut headers = HeaderMap::new();
        let agent = concat!("podwork-cli/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // A key from a file often ends with a newline.
        if let Some(key) = key.map(str::trim).filter(|key| !key.is_empty()) {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                anyhow!("invalid API key: HTTP headers do not allow some of its characters")
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // reqwest is built without a TLS provider; an error means that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // Like curl, tolerate malformed headers.
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .redirect(Policy::custom(follow));
        if address.is_http() {
            // Plain HTTP needs no certificates.
            builder = builder.tls_certs_only([]);
        }
        if address.is_loopback() {
            builder = builder.no_proxy();
        }
        if let Some(name) = address.loopback_name() {
            // Few systems resolve names below `localhost`.
            let addresses = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            let addresses = addresses.map(|ip: IpAddr| SocketAddr::new(ip, 0));
            builder = builder.resolve_to_addrs(name, &addresses);
        }
        let http = builder
            .build()
            .context("cannot initialise the HTTP client")?;
        Ok(Self {
            address,
            http,
            received: Arc::default(),
        })
    }

    /// Submits a job.
    pub(crate) async fn run(&self, request: &RunRequest) -> Result<JobState> {
        let body = serde_json::to_vec(request)?;
        let url = self.address.call(&["run"]);
        let call = || async {
            let mut call = Request::new(Method::POST, url.clone());
            call.headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *call.body_mut() = Some(body.clone().into());
            let state: JobState = self.read(call).await.map_err(|mut failed| {
                // Unless the endpoint was busy, the job may exist: a retry could submit it twice.
                let refused = failed.error.downcast_ref::<RefusedCall>();
                if !refused.is_some_and(RefusedCall::is_busy) {
                    failed.retry = None;
                }
                failed
            })?;
            if state.id.is_empty() {
                let problem = anyhow!("{} answered without a job id", self.address);
                return Err(FailedCall::permanent(problem));
            }
            Ok(state)
        };
        retried(call).await
    }

    pub(crate) async fn status(&self, job: &str) -> Result<StatusResponse> {
        let call = || async {
            let body = self.answer(self.get(&["status", job])).await?;
            // The endpoint knows the job, so an unreadable answer comes from a proxy or from a server that starts.
            self.parsed(&body, |text| serde_json::from_str(text))
                .map_err(|error| FailedCall {
                    error,
                    retry: Some(Duration::ZERO),
                })
        };
        retried(call).await
    }

    /// Returns the chunks since the last call, without retries.
    pub(crate) async fn stream(&self, job: &str) -> Result<StreamResponse, FailedCall> {
        let body = self.answer(self.get(&["stream", job])).await?;
        self.parsed(&body, chunks).map_err(FailedCall::permanent)
    }

    /// Returns the number of bytes that successful answers have brought so far.
    pub(crate) fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }

    /// Cancels a job. Any successful answer will do.
    pub(crate) async fn cancel(&self, job: &str) -> Result<()> {
        let url = self.address.call(&["cancel", job]);
        let call = || self.answer(Request::new(Method::POST, url.clone()));
        retried(call).await.map(drop)
    }

    /// Calls `/health`, without retries.
    pub(crate) async fn health(&self) -> Result<Health> {
        let answer: BTreeMap<String, Box<RawValue>> = self
            .read(self.get(&["health"]))
            .await
            .map_err(|failed| failed.error)?;
        // Other servers have a `/health`, too.
        if !answer.contains_key("jobs") && !answer.contains_key("workers") {
            return Err(anyhow!(
                "unexpected answer from {} (is it an endpoint?): neither `jobs` nor `workers`",
                self.address
            ));
        }
        Ok(serde_json::from_str(&serde_json::to_string(&answer)?)?)
    }

    fn get(&self, path: &[&str]) -> Request {
        Request::new(Method::GET, self.address.call(path))
    }

    /// Makes a call, and parses its answer.
    async fn read<T: DeserializeOwned>(&self, request: Request) -> Result<T, FailedCall> {
        let body = self.answer(request).await?;
        self.parsed(&body, |text| serde_json::from_str(text))
            .map_err(FailedCall::permanent)
    }

    /// Parses the body of an answer. The message of an error says what the body is instead.
    fn parsed<T>(
        &self,
        body: &[u8],
        parse: impl FnOnce(&str) -> serde_json::Result<T>,
    ) -> Result<T> {
        let text = String::from_utf8_lossy(body);
        parse(without_bom(&text)).map_err(|error| {
            let unexpected = format!(
                "unexpected answer from {} (is it an endpoint?)",
                self.address
            );
            if error.is_data() {
                anyhow!("{unexpected}: {error}")
            } else {
                let found = Some(answer::reason(body)).filter(|found| !found.is_empty());
                anyhow!(
                    "{unexpected}: not JSON but {}",
                    found.as_deref().unwrap_or("empty")
                )
            }
        })
    }

    /// Makes a call, and returns the body of a successful answer. The message of an error explains how to fix it.
    async fn answer(&self, request: Request) -> Result<Vec<u8>, FailedCall> {
        let sent = self.http.execute(request).await;
        let response = sent.map_err(|error| self.unreachable(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let ignored = AtomicUsize::new(0);
        let received = if status.is_success() {
            &*self.received
        } else {
            &ignored
        };
        let body = answer::body(response, MAX_ANSWER, received).await;
        let Some(body) = body.map_err(|error| self.unreachable(error))? else {
            return Err(FailedCall::permanent(anyhow!(
                "the answer of {} is larger than {} MB",
                self.address,
                MAX_ANSWER >> 20
            )));
        };
        if status.is_success() {
            return Ok(body);
        }
        let refused = RefusedCall::new(&self.address, status, &headers, &body);
        let retry = refused
            .is_transient()
            .then(|| answer::retry_after(&headers).unwrap_or_default());
        Err(FailedCall {
            error: refused.into(),
            retry,
        })
    }

    fn unreachable(&self, error: reqwest::Error) -> FailedCall {
        let unreachable = format!("cannot reach {}", self.address);
        if let Some(problem) = failure::permanent(&error) {
            return FailedCall::permanent(anyhow!("{unreachable}: {problem}"));
        }
        // On loopback, a refused connection means that no program listens.
        let refused = self.address.is_loopback() && failure::is_refused(&error);
        let cure = if refused {
            "; is `podwork dev` running?"
        } else {
            ""
        };
        let lasting = refused || error.is_builder();
        let error = anyhow::Error::new(error.without_url()).context(format!("{unreachable}{cure}"));
        FailedCall {
            error,
            retry: (!lasting).then_some(Duration::ZERO),
        }
    }
}

/// Parses an answer of `/stream`. A list without the usual object around it is a list of chunks.
fn chunks(text: &str) -> serde_json::Result<StreamResponse> {
    if !text.trim_start().starts_with('[') {
        return serde_json::from_str(text);
    }
    let list: Box<RawValue> = serde_json::from_str(text)?;
    serde_json::from_str(&format!(r#"{{"stream":{list}}}"#))
}

/// Follows a redirect only if the call stays the same and the endpoint's key stays with the same server.
fn follow(attempt: Attempt<'_>) -> Action {
    let same_call = matches!(
        attempt.status(),
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    );
    let earlier = attempt.previous();
    let same_server = earlier
        .first()
        .is_some_and(|first| first.origin() == attempt.url().origin());
    if same_call && same_server && earlier.len() <= MAX_REDIRECTS {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// Retries a call while its errors are transient.
async fn retried<T, F: Future<Output = Result<T, FailedCall>>>(
    call: impl FnMut() -> F,
) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter();
    let done = call
        .retry(pauses)
        .when(|failed| failed.retry.is_some())
        .adjust(|failed, pause| {
            // The longer of what the endpoint requests and the own delay.
            let pause = pause?.max(failed.retry?);
            (Instant::now().checked_add(pause)? < deadline).then_some(pause)
        });
    done.await.map_err(|failed| failed.error)
}
