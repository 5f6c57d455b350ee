//! Traces on their way to a collector: by OTLP, as the standard variables say, over the worker's own HTTP client.

use std::env;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::header::HeaderMap;
use hyper::{Request, Response, Uri};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    Protocol, SpanExporter as OtlpExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use podwork_protocol::template::UrlTemplate;
use tokio::runtime::{Builder, Runtime};
use tracing::{info, warn};

use crate::config::{first_given, given, whole_number, without_secrets};
use crate::error::Error;
use crate::net::http::{Body, Call, Http};

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
/// Numbers with which the library makes no sense of 0.
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
/// Switches that the specification has for all of it, and for traces.
const DISABLED: &str = "OTEL_SDK_DISABLED";
const TRACES_EXPORTER: &str = "OTEL_TRACES_EXPORTER";

/// As the specification says it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most that is read of a collector's answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

fn get(name: &str) -> Option<String> {
    given(|name| env::var(name).ok(), name)
}

/// The first of these that is set.
fn first(variables: &[&'static str]) -> Option<(&'static str, String)> {
    first_given(|name| env::var(name).ok(), variables)
}

/// The first of these that is set must be one of `heeded`: the library takes what else there is for nothing, in silence.
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

/// What makes spans and exports them, in batches, from a bounded queue and a thread of its own; `None` where no collector
/// is named.
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
        "traces are exported by another protocol here",
        "http/protobuf, and the endpoint to a collector's port for that (4318)",
    )?;
    check(
        &[TRACES_COMPRESSION, COMPRESSION],
        &["none"],
        "traces are exported as they are here",
        "none",
    )?;
    check(
        &[SAMPLER],
        &SAMPLERS,
        "no such sampler here",
        "always_on, always_off, traceidratio, or one of them after parentbased_",
    )?;
    for (variable, expected) in ABOVE_0 {
        whole_number::<u64>(variable, get(variable), expected)?;
    }
    let mut provider = SdkTracerProvider::builder()
        .with_batch_exporter(Exporter::new(&endpoint)?)
        .with_resource(resource());
    if get(LINK_LIMIT).is_none_or(|limit| limit.parse::<u32>().is_err()) {
        // A batch's span links all its jobs.
        provider = provider.with_max_links_per_span(u32::MAX);
    }
    Ok(Some(provider.build()))
}

/// What is wrong with a collector's URL.
fn no_url(endpoint: &str) -> Option<String> {
    // Or the library takes a host and port for a URL, to fail at each export.
    if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        return Some("there is no http:// or https:// before it".to_owned());
    }
    // The library says so too, and shows all of it.
    let error = endpoint.parse::<Uri>().err()?;
    Some(error.to_string())
}

/// What the environment says of this program; its name, where that says none.
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

/// Says once that exports fail, and once that they do no more: they may fail for days. A try that is followed by another is
/// no such failure.
#[derive(Debug)]
struct Exporter {
    otlp: OtlpExporter,
    trouble: Trouble,
    failing: AtomicBool,
}

/// Why the last try failed, if it did; the library tells less of it.
#[derive(Debug, Clone, Default)]
struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    fn last(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exporter {
    fn new(endpoint: &str) -> Result<Self, Error> {
        let trouble = Trouble::default();
        let otlp = OtlpExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(Client::new(endpoint, trouble.clone())?)
            .build()
            .map_err(|error| Error::Traces(error.to_string()))?;
        Ok(Self {
            otlp,
            trouble,
            failing: AtomicBool::new(false),
        })
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.otlp.export(batch).await;
        let trouble = self.trouble.last().take();
        let failed = self.failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Err(error) if !failed => {
                let why = trouble.unwrap_or_else(|| error.to_string());
                warn!("traces cannot be exported, and are lost until they can be: {why}");
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

/// The exporter's way to the collector, used on the exporter's own thread alone.
struct Client {
    http: Http,
    /// Made there: a runtime may not be dropped where others run, as this may be if the exporter cannot be built.
    runtime: OnceLock<Runtime>,
    timeout: Duration,
    trouble: Trouble,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    fn new(endpoint: &str, trouble: Trouble) -> Result<Self, Error> {
        let mut timeout = None;
        for variable in [TIMEOUT, TRACES_TIMEOUT] {
            let millis = whole_number(variable, get(variable), "milliseconds, such as 10000")?;
            timeout = millis.map(Duration::from_millis).or(timeout);
        }
        Ok(Self {
            http: Http::new(HeaderMap::new(), endpoint.starts_with("https"))?,
            runtime: OnceLock::new(),
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            trouble,
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
        let (parts, body) = request.into_parts();
        let call = Call {
            method: parts.method,
            url: UrlTemplate::of_worker(&parts.uri.to_string(), "").url(),
            headers: parts.headers,
            body: Body::from([body, Bytes::new(), Bytes::new()]),
            timeout: self.timeout,
            limit: MAX_ANSWER,
        };
        let answer = self.runtime()?.block_on(self.http.call(call))?;
        let mut response = Response::new(answer.body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'f>(
        &'a self,
        request: Request<Bytes>,
    ) -> BoxFuture<'f, Result<Response<Bytes>, HttpError>>
    where
        'a: 'f,
        Self: 'f,
    {
        // It is awaited on a thread that does nothing else.
        Box::pin(async {
            let sent = self.send(request);
            *self.trouble.last() = match &sent {
                Ok(response) if response.status().is_success() => None,
                Ok(response) => Some(response.status().to_string()),
                Err(why) => Some(why.clone()),
            };
            sent.map_err(Into::into)
        })
    }
}
