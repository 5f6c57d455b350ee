//! Export of traces to a collector: OTLP over podwork's own HTTP client, configured by the standard variables.

use std::env;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use hyper::Uri;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    Protocol, SpanExporter as OtlpExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use reqwest::StatusCode;
use reqwest::redirect::{Attempt, Policy};
use tokio::runtime::{Builder, Runtime};
use tracing::{info, warn};

use crate::config::{first_given, given, whole_number, without_secrets};
use crate::error::Error;
use crate::net::client::{ClientSettings, FetchError, GuardedClient, causes};
use crate::net::public_only::AddressGuard;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const TRACES_TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
const COMPRESSION: &str = "OTEL_EXPORTER_OTLP_COMPRESSION";
const TRACES_COMPRESSION: &str = "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];
const LINK_LIMIT: &str = "OTEL_SPAN_LINK_COUNT_LIMIT";
/// Variables that must be above 0, because the library does not handle 0, and the expected value of each.
const ABOVE_0: [(&str, &str); 3] = [
    ("OTEL_BSP_SCHEDULE_DELAY", "milliseconds, such as 5000"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "a number of spans, such as 2048"),
    (
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "a number of spans, such as 512",
    ),
];
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
/// The switches of the specification, for the whole SDK and for traces.
const DISABLED: &str = "OTEL_SDK_DISABLED";
const TRACES_EXPORTER: &str = "OTEL_TRACES_EXPORTER";

/// The timeout of an export if none is set, as in the specification.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum size of a collector's response, in bytes.
const MAX_ANSWER: usize = 64 * 1024;
/// Maximum number of redirects of one export.
const MAX_REDIRECTS: usize = 3;

fn get(name: &str) -> Option<String> {
    given(|name| env::var(name).ok(), name)
}

/// Returns the name and value of the first of these variables that is set.
fn first(variables: &[&'static str]) -> Option<(&'static str, String)> {
    first_given(|name| env::var(name).ok(), variables)
}

/// Returns an error if the first of these variables that is set has a value other than the `heeded` ones, which the
/// library would silently ignore.
fn check(
    variables: &[&'static str],
    heeded: &[&str],
    problem: &str,
    expected: &'static str,
) -> Result<(), Error> {
    match first(variables).filter(|(_, value)| !heeded.contains(&value.as_str())) {
        None => Ok(()),
        Some((variable, value)) => Err(Error::MalformedVariable {
            variable,
            value,
            problem: problem.to_owned(),
            expected,
        }),
    }
}

/// Returns the provider that creates spans and exports them in batches, from a bounded queue and on its own thread.
/// Returns `None` if no collector is set, or the export is disabled.
pub(super) fn provider() -> Result<Option<SdkTracerProvider>, Error> {
    let disabled = get(DISABLED).is_some_and(|text| text.trim().eq_ignore_ascii_case("true"));
    let none = get(TRACES_EXPORTER).is_some_and(|text| text.trim() == "none");
    let Some((variable, endpoint)) = first(&[TRACES_ENDPOINT, ENDPOINT]) else {
        return Ok(None);
    };
    if disabled || none {
        return Ok(None);
    }
    if let Some(problem) = no_url(&endpoint) {
        return Err(Error::MalformedVariable {
            variable,
            value: without_secrets(&endpoint),
            problem,
            expected: "a collector's URL, such as http://localhost:4318",
        });
    }
    check(
        &[TRACES_PROTOCOL, PROTOCOL],
        &["http/protobuf"],
        "unsupported protocol",
        "http/protobuf, and the endpoint to the collector's port for OTLP over HTTP (4318)",
    )?;
    check(
        &[TRACES_COMPRESSION, COMPRESSION],
        &["none"],
        "compression is not supported",
        "none",
    )?;
    check(
        &[SAMPLER],
        &SAMPLERS,
        "unsupported sampler",
        "always_on, always_off, traceidratio, or one of these with the prefix parentbased_",
    )?;
    for (variable, expected) in ABOVE_0 {
        whole_number::<u64>(variable, get(variable), expected)?;
    }
    let mut provider = SdkTracerProvider::builder()
        .with_batch_exporter(Exporter::new(&endpoint)?)
        .with_resource(resource());
    if get(LINK_LIMIT).is_none_or(|limit| limit.parse::<u32>().is_err()) {
        // The span of a batch links to all its jobs.
        provider = provider.with_max_links_per_span(u32::MAX);
    }
    Ok(Some(provider.build()))
}

/// Returns the reason why a collector's URL is invalid, or `None` if it is valid.
fn no_url(endpoint: &str) -> Option<String> {
    // The library would accept a host and port as a URL, and then fail at each export.
    if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        return Some("it does not start with http:// or https://".to_owned());
    }
    // The library's own error would show the whole URL, including secrets.
    let error = endpoint.parse::<Uri>().err()?;
    Some(error.to_string())
}

/// Returns the resource attributes from the environment. Default service name: the file name of the program.
fn resource() -> Resource {
    let say_it = |attributes: String| {
        let mut pairs = attributes
            .split(',')
            .filter_map(|pair| pair.split_once('='));
        pairs.any(|(key, _)| key.trim() == "service.name")
    };
    let named = get(SERVICE_NAME).is_some() || get(RESOURCE).is_some_and(say_it);
    let resource = Resource::builder();
    let program = env::current_exe().ok();
    let name = program.as_ref().and_then(|program| program.file_stem());
    match name.filter(|_| !named) {
        Some(name) => resource.with_service_name(name.to_string_lossy().into_owned()),
        None => resource,
    }
    .build()
}

/// A span exporter that logs when exports start to fail and when they succeed again, but not each failure: they may
/// fail for days. An attempt that is retried does not count as a failure.
#[derive(Debug)]
struct Exporter {
    otlp: OtlpExporter,
    last_failure: LastFailure,
    failing: AtomicBool,
}

/// The reason why the last attempt failed, if it did. The library's own error has less detail.
#[derive(Debug, Clone, Default)]
struct LastFailure(Arc<Mutex<Option<String>>>);

impl LastFailure {
    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exporter {
    fn new(endpoint: &str) -> Result<Self, Error> {
        let last_failure = LastFailure::default();
        let otlp = OtlpExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(CollectorClient::new(endpoint, last_failure.clone())?)
            .build()
            .map_err(|error| Error::Traces(error.to_string()))?;
        Ok(Self {
            otlp,
            last_failure,
            failing: AtomicBool::new(false),
        })
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.otlp.export(batch).await;
        let last_failure = self.last_failure.lock().take();
        let failed = self.failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Err(error) if !failed => {
                let why = last_failure.unwrap_or_else(|| error.to_string());
                warn!(
                    error = %why,
                    "Traces cannot be exported; they are lost until an export succeeds."
                );
            }
            Ok(()) if failed => info!("Traces are exported again."),
            _ => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.otlp.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

/// The exporter's HTTP client, used only on the exporter's own thread.
struct CollectorClient {
    client: GuardedClient,
    /// The runtime, created on that thread: dropping a runtime inside another one panics, and this client is dropped
    /// inside the worker's runtime if the exporter cannot be built.
    runtime: OnceLock<Runtime>,
    timeout: Duration,
    last_failure: LastFailure,
}

impl fmt::Debug for CollectorClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CollectorClient")
    }
}

impl CollectorClient {
    fn new(endpoint: &str, last_failure: LastFailure) -> Result<Self, Error> {
        let mut timeout = None;
        for variable in [TIMEOUT, TRACES_TIMEOUT] {
            let millis = whole_number(variable, get(variable), "milliseconds, such as 10000")?;
            timeout = millis.map(Duration::from_millis).or(timeout);
        }
        let client = GuardedClient::new(ClientSettings {
            // The user sets the collector's address, which may be in a private network.
            guard: AddressGuard::new(true),
            tls: endpoint.starts_with("https"),
            redirects: Policy::custom(|attempt| {
                if is_followed(&attempt) {
                    attempt.follow()
                } else {
                    attempt.stop()
                }
            }),
            keep_alive: true,
        });
        if let Some(why) = client.no_tls() {
            return Err(Error::HttpClient(io::Error::other(why.to_owned())));
        }
        Ok(Self {
            client,
            runtime: OnceLock::new(),
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            last_failure,
        })
    }

    fn runtime(&self) -> Result<&Runtime, String> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        Ok(self.runtime.get_or_init(|| runtime))
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let request = request.try_into().map_err(|error| causes(&error))?;
        let timeout = self.timeout;
        self.runtime()?.block_on(async {
            match tokio::time::timeout(timeout, self.export(request)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no response within {timeout:?}")),
            }
        })
    }

    async fn export(&self, request: reqwest::Request) -> Result<Response<Bytes>, String> {
        let answer = self.client.send(request).await;
        let mut answer = answer.map_err(|error| match error {
            FetchError::Private(refused) => refused.to_string(),
            FetchError::NoTls(why) | FetchError::Permanent(why) | FetchError::Failed(why) => why,
        })?;
        let mut body = BytesMut::new();
        while let Some(part) = answer.chunk().await.map_err(|error| causes(&error))? {
            if body.len() + part.len() > MAX_ANSWER {
                return Err(format!("the response exceeds {MAX_ANSWER} bytes"));
            }
            body.extend_from_slice(&part);
        }
        let mut response = Response::new(body.freeze());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

/// Returns whether an export follows a redirect: only if the request stays unchanged, on the same host, and without a
/// downgrade from TLS, since its headers may contain a key.
fn is_followed(attempt: &Attempt<'_>) -> bool {
    let keeps_the_post = matches!(
        attempt.status(),
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
    );
    let (to, previous) = (attempt.url(), attempt.previous());
    let Some(from) = previous.last() else {
        return false;
    };
    let is_safe = to.scheme() == "https" || to.scheme() == from.scheme();
    keeps_the_post && is_safe && to.host() == from.host() && previous.len() <= MAX_REDIRECTS
}

impl HttpClient for CollectorClient {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> BoxFuture<'f, Result<Response<Bytes>, HttpError>>
    where
        'a: 'f,
        Self: 'f,
    {
        // This may block: it is awaited on a thread that does nothing else.
        Box::pin(async {
            let sent = self.send(request);
            *self.last_failure.lock() = match &sent {
                Ok(response) if response.status().is_success() => None,
                Ok(response) => Some(response.status().to_string()),
                Err(why) => Some(why.clone()),
            };
            sent.map_err(Into::into)
        })
    }
}
