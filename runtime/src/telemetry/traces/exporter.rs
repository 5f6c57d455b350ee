//! Traces on their way to a collector: by OTLP, as the standard variables say, over the worker's own HTTP client.

use std::env;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use podwork_protocol::template::UrlTemplate;
use tokio::runtime::{Builder, Runtime};
use tracing::{info, warn};

use crate::config::{given, whole_number};
use crate::error::Error;
use crate::http::{Body, Call, Http};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const TRACES_TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
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

/// What makes spans and exports them, in batches, from a bounded queue and a thread of its own; `None` where no collector
/// is named.
pub(super) fn provider() -> Result<Option<SdkTracerProvider>, Error> {
    let disabled = get(DISABLED).is_some_and(|text| text.trim().eq_ignore_ascii_case("true"));
    let none = get(TRACES_EXPORTER).is_some_and(|text| text.trim() == "none");
    let Some(endpoint) = get(TRACES_ENDPOINT).or_else(|| get(ENDPOINT)) else {
        return Ok(None);
    };
    if disabled || none {
        return Ok(None);
    }
    for variable in [TRACES_PROTOCOL, PROTOCOL] {
        if let Some(value) = get(variable).filter(|value| value.trim() != "http/protobuf") {
            return Err(Error::MalformedVariable {
                variable,
                value,
                problem: "traces are exported by another protocol here".to_owned(),
                expected: "http/protobuf, and the endpoint to a collector's port for that (4318)",
            });
        }
    }
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_http_client(Client::new(&endpoint)?)
        .build()
        .map_err(|error| Error::Traces(error.to_string()))?;
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource())
        .build();
    Ok(Some(provider))
}

/// What the environment says of this program; its name, where that says none.
fn resource() -> Resource {
    let named = get(SERVICE_NAME).is_some()
        || get(RESOURCE).is_some_and(|attributes| attributes.contains("service.name="));
    let resource = Resource::builder();
    let program = env::current_exe().ok();
    let name = program.as_ref().and_then(|program| program.file_stem());
    match name.filter(|_| !named) {
        Some(name) => resource.with_service_name(name.to_string_lossy().into_owned()),
        None => resource,
    }
    .build()
}

/// The exporter's way to the collector, used on the exporter's own thread alone.
struct Client {
    http: Http,
    runtime: Runtime,
    timeout: Duration,
    /// The last export failed, and that was said.
    failing: AtomicBool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    fn new(endpoint: &str) -> Result<Self, Error> {
        let mut timeout = None;
        for variable in [TIMEOUT, TRACES_TIMEOUT] {
            let millis = whole_number(variable, get(variable), "milliseconds, such as 10000")?;
            timeout = millis.map(Duration::from_millis).or(timeout);
        }
        let runtime = Builder::new_current_thread().enable_all().build();
        Ok(Self {
            http: Http::new(HeaderMap::new(), endpoint.starts_with("https"))?,
            runtime: runtime.map_err(|source| Error::System {
                what: "starting the exporter of traces",
                source,
            })?,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            failing: AtomicBool::new(false),
        })
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
        let answer = self.runtime.block_on(self.http.call(call))?;
        let mut response = Response::new(answer.body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }

    /// Says once that exports fail, and once that they do no more: they may fail for days.
    fn say(&self, sent: &Result<Response<Bytes>, String>) {
        let trouble = match sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(why) => Some(why.clone()),
        };
        let failed = self.failing.swap(trouble.is_some(), Ordering::Relaxed);
        match trouble {
            Some(why) if !failed => {
                warn!("traces cannot be exported, and are lost until they can be: {why}");
            }
            None if failed => info!("Traces are exported again."),
            _ => {}
        }
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
            self.say(&sent);
            sent.map_err(Into::into)
        })
    }
}
