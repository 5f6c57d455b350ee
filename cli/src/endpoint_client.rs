//! The client of an endpoint.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use backon::{ExponentialBuilder, Retryable as _};
use podwork_protocol::client::{
    ErrorBody, Health, JobState, RunRequest, StatusResponse, StreamResponse,
};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

/// The base URL of Runpod's endpoints.
pub(crate) const RUNPOD: &str = "https://api.runpod.ai/v2";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit on the time of one call. It is longer than the platform delays any answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(100);
/// The time for which a failed call is retried.
const PATIENCE: Duration = Duration::from_mins(1);

/// The client of one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct EndpointClient {
    /// The URL, without a trailing slash.
    pub(crate) url: String,
    loopback: bool,
    http: Client,
}

/// The reason why a call failed.
#[derive(Debug)]
enum RequestError {
    /// A retry may succeed.
    Transient(anyhow::Error),
    Permanent(anyhow::Error),
}

impl RequestError {
    fn into_inner(self) -> anyhow::Error {
        match self {
            Self::Transient(error) | Self::Permanent(error) => error,
        }
    }
}

impl EndpointClient {
    /// Returns the client for a URL, or for the id of an endpoint at Runpod.
    pub(crate) fn new(endpoint: &str, key: Option<&str>) -> Result<Self> {
        let url = endpoint_url(endpoint)?;
        let mut headers = HeaderMap::new();
        let agent = concat!("podwork-cli/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if let Some(key) = key.filter(|key| !key.is_empty()) {
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
            .timeout(ANSWER_TIMEOUT);
        if url.scheme() == "http" {
            // Plain HTTP needs no certificates.
            builder = builder.tls_certs_only([]);
        }
        let loopback = is_loopback(&url);
        if loopback {
            builder = builder.no_proxy();
        }
        Ok(Self {
            url: url.as_str().trim_end_matches('/').to_owned(),
            loopback,
            http: builder
                .build()
                .context("cannot initialise the HTTP client")?,
        })
    }

    /// Submits a job.
    pub(crate) async fn run(&self, request: &RunRequest) -> Result<JobState> {
        let call = || async {
            let sent = self.request(Method::POST, "run").json(request).send().await;
            // Unless the endpoint refused the call, the job may exist: a retry could submit it twice.
            self.read(sent).await.map_err(|problem| match problem {
                RequestError::Transient(error) if !error.is::<RefusedCall>() => {
                    RequestError::Permanent(error)
                }
                other => other,
            })
        };
        retried(call).await
    }

    pub(crate) async fn status(&self, job: &str) -> Result<StatusResponse> {
        self.get(&format!("status/{job}")).await
    }

    /// Returns the chunks since the last call.
    pub(crate) async fn stream(&self, job: &str) -> Result<StreamResponse> {
        self.get(&format!("stream/{job}")).await
    }

    pub(crate) async fn cancel(&self, job: &str) -> Result<JobState> {
        let path = format!("cancel/{job}");
        retried(|| async {
            self.read(self.request(Method::POST, &path).send().await)
                .await
        })
        .await
    }

    /// Calls `/health`, without retries.
    pub(crate) async fn health(&self) -> Result<Health> {
        let sent = self.request(Method::GET, "health").send().await;
        self.read(sent).await.map_err(RequestError::into_inner)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        retried(|| async {
            self.read(self.request(Method::GET, path).send().await)
                .await
        })
        .await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/{path}", self.url))
    }

    /// Reads the answer. The message of an error explains how to fix it.
    async fn read<T: DeserializeOwned>(
        &self,
        sent: reqwest::Result<Response>,
    ) -> Result<T, RequestError> {
        let response = sent.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let text = response
            .text()
            .await
            .map_err(|error| self.unreachable(error))?;
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| {
                RequestError::Permanent(anyhow!(
                    "unexpected answer from {} (is it an endpoint?): {error}",
                    self.url
                ))
            });
        }
        let said = serde_json::from_str::<ErrorBody>(&text).map_or(text, |body| body.error);
        let cure = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                "; set RUNPOD_API_KEY to the endpoint's API key"
            }
            StatusCode::NOT_FOUND => "; check the endpoint's address; the job may have expired",
            _ => "",
        };
        let refused = RefusedCall(format!(
            "{} answered {status}: {}{cure}",
            self.url,
            said.trim()
        ));
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                RequestError::Transient(refused.into())
            }
            status if status.is_server_error() => RequestError::Transient(anyhow!(refused.0)),
            _ => RequestError::Permanent(refused.into()),
        })
    }

    fn unreachable(&self, error: reqwest::Error) -> RequestError {
        let error = error.without_url();
        let refused = error.is_connect() && self.loopback;
        let cure = if refused {
            "; is `podwork dev` running?"
        } else {
            ""
        };
        let told = anyhow::Error::new(error).context(format!("cannot reach {}{cure}", self.url));
        // On loopback, a refused connection means that no program listens, so a retry would not help.
        if refused {
            RequestError::Permanent(told)
        } else {
            RequestError::Transient(told)
        }
    }
}

/// A call that the endpoint refused, without any effect.
#[derive(Debug)]
struct RefusedCall(String);

impl std::fmt::Display for RefusedCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RefusedCall {}

/// Retries a call while its errors are transient.
async fn retried<T, F: Future<Output = Result<T, RequestError>>>(
    call: impl FnMut() -> F,
) -> Result<T> {
    let pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .with_total_delay(Some(PATIENCE))
        .without_max_times()
        .with_jitter();
    let done = call
        .retry(pauses)
        .when(|problem| matches!(problem, RequestError::Transient(_)));
    done.await.map_err(RequestError::into_inner)
}

/// Returns the URL of an endpoint, from a URL or from the id of a Runpod endpoint.
fn endpoint_url(endpoint: &str) -> Result<Url> {
    let endpoint = endpoint.trim().trim_end_matches('/');
    if endpoint.is_empty() {
        bail!("the endpoint is empty: pass a URL or the id of a Runpod endpoint");
    }
    let is_id = endpoint
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let text = if endpoint.contains("://") {
        endpoint.to_owned()
    } else if is_id && endpoint != "localhost" {
        format!("{RUNPOD}/{endpoint}")
    } else {
        format!("http://{endpoint}")
    };
    let url =
        Url::parse(&text).with_context(|| format!("`{endpoint}` is not a valid endpoint URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        bail!("`{endpoint}` is not an http or https URL");
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_matches(['[', ']']);
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_or_an_id() {
        let url = |text: &str| {
            endpoint_url(text)
                .map(|url| url.to_string())
                .unwrap_or_default()
        };
        assert_eq!(url("abc123"), "https://api.runpod.ai/v2/abc123");
        assert_eq!(url("http://h:8000/v2/e/"), "http://h:8000/v2/e");
        assert_eq!(url("localhost:8000/v2/e"), "http://localhost:8000/v2/e");
        assert_eq!(url("127.0.0.1:9"), "http://127.0.0.1:9/");
        assert_eq!(url(""), "");
        assert_eq!(url("ftp://h"), "");
    }
}
