//! The traces that a worker exports, received by a collector on loopback.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::post;
use axum::serve::Listener;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use podwork_platform::Platform;
use podwork_tests::{Answer, Binary, Recorded, Scripted, Started, ended, submit};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificate::certified;

/// The collector's behavior.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Takes,
    Fails,
    /// Answers the first export with 503, which asks for a retry, and accepts the others.
    IsBusy,
    Holds,
}

/// A running collector. Stops when dropped.
struct Collector {
    url: String,
    got: Arc<Got>,
    serving: JoinHandle<()>,
}

struct Got {
    manner: Manner,
    exports: watch::Sender<Vec<ExportTraceServiceRequest>>,
    /// The header `X-Key` of the last export.
    key: watch::Sender<Option<HeaderValue>>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn collect(State(got): State<Arc<Got>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let key = headers.get("x-key").cloned();
    got.key.send_replace(key);
    let export = ExportTraceServiceRequest::decode(body).unwrap();
    got.exports.send_modify(|exports| exports.push(export));
    let tries = got.exports.borrow().len();
    match got.manner {
        Manner::Fails => StatusCode::INTERNAL_SERVER_ERROR,
        Manner::IsBusy if tries == 1 => StatusCode::SERVICE_UNAVAILABLE,
        Manner::Takes | Manner::IsBusy => StatusCode::OK,
        Manner::Holds => std::future::pending().await,
    }
}

/// A TLS listener, for clients that trust its certificate.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Collector {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self::serve(listener, url, manner)
    }

    fn serve(listener: impl Listener<Addr = SocketAddr>, url: String, manner: Manner) -> Self {
        let got = Arc::new(Got {
            manner,
            exports: watch::Sender::default(),
            key: watch::Sender::default(),
        });
        let router = Router::new()
            .route("/v1/traces", post(collect))
            .with_state(Arc::clone(&got));
        let serving = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { url, got, serving }
    }

    async fn until_exports(&self, count: usize) {
        let mut exports = self.got.exports.subscribe();
        let waiting = exports.wait_for(|exports| exports.len() >= count);
        let waited = tokio::time::timeout(Duration::from_mins(1), waiting).await;
        drop(waited.expect("timed out waiting for exports").unwrap());
    }

    /// Returns all spans received so far.
    fn spans(&self) -> Spans {
        let exports = self.got.exports.borrow();
        let resources = exports.iter().flat_map(|export| &export.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        Spans(scopes.flat_map(|scope| scope.spans.clone()).collect())
    }

    /// Returns the attributes of the worker's resource.
    fn resource(&self) -> BTreeMap<String, Value> {
        let exports = self.got.exports.borrow();
        let resource = exports[0].resource_spans[0].resource.clone().unwrap();
        attributes(&resource.attributes)
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, Value> {
    let value = |pair: &KeyValue| match pair.value.clone()?.value? {
        any_value::Value::StringValue(text) => Some(json!(text)),
        any_value::Value::IntValue(number) => Some(json!(number)),
        _ => None,
    };
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), value(pair).unwrap_or(Value::Null)))
        .collect()
}

#[derive(Debug)]
struct Spans(Vec<Span>);

impl Spans {
    fn named(&self, name: &str) -> Vec<&Span> {
        self.0.iter().filter(|span| span.name == name).collect()
    }

    /// Returns the root span of a job's trace.
    fn job(&self, id: &str) -> &Span {
        let mut jobs = self.named("job").into_iter();
        jobs.find(|job| attributes(&job.attributes)["podwork.job.id"] == id)
            .unwrap_or_else(|| panic!("no trace of {id}: {self:#?}"))
    }

    fn children(&self, parent: &Span) -> Vec<&Span> {
        let mut children: Vec<_> = self
            .0
            .iter()
            .filter(|span| {
                span.trace_id == parent.trace_id && span.parent_span_id == parent.span_id
            })
            .collect();
        children.sort_by_key(|span| span.start_time_unix_nano);
        children
    }

    fn child(&self, parent: &Span, name: &str) -> &Span {
        let children = self.children(parent);
        let mut named = children.iter().filter(|span| span.name == name);
        let found = named.next();
        assert!(
            named.next().is_none(),
            "more than one {name}: {children:#?}"
        );
        found.unwrap_or_else(|| panic!("no {name} in {parent:#?}: {children:#?}"))
    }
}

fn names(spans: &[&Span]) -> Vec<String> {
    spans.iter().map(|span| span.name.clone()).collect()
}

/// Returns the status code and message of a span. Code 2 is an error.
fn status(span: &Span) -> (i32, String) {
    let status = span.status.clone().unwrap_or_default();
    (status.code, status.message)
}

fn binary(args: &[&str], url: &str, variables: &[(&'static str, &str)]) -> Binary {
    let own = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.to_owned())];
    let others = variables
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()));
    Binary::new(env!("CARGO_BIN_EXE_podwork-test-worker"), args)
        .env(own)
        .env(others)
}

fn worker(platform: &Platform, args: &[&str], url: &str) -> Started {
    binary(args, url, &[]).env(platform.worker_env("w")).start()
}

/// Stops the worker, which exports its last traces.
async fn stop(worker: Started) {
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
}

/// Runs one job in a worker with these variables, and returns the collector that received its traces.
async fn traced(variables: &[(&'static str, &str)]) -> Collector {
    let collector = Collector::start(Manner::Takes).await;
    let platform = Platform::builder().start().await.unwrap();
    let worker = binary(&[], &collector.url, variables)
        .env(platform.worker_env("w"))
        .start();
    let id = submit(&platform, &json!({"do": "echo", "value": 1}));
    ended(&platform, &id).await;
    stop(worker).await;
    collector
}

/// Asserts that the job has the spans `take`, `run` and `deliver`, in this order and within its own time.
fn check_times(spans: &Spans, job: &Span) {
    let take = spans.child(job, "take");
    let run = spans.child(job, "run");
    let deliver = spans.child(job, "deliver");
    assert_eq!(job.start_time_unix_nano, take.start_time_unix_nano);
    assert!(take.end_time_unix_nano <= run.start_time_unix_nano);
    assert_eq!(run.end_time_unix_nano, deliver.start_time_unix_nano);
    assert!(deliver.end_time_unix_nano <= job.end_time_unix_nano);
    for span in [take, run, deliver] {
        assert!(span.start_time_unix_nano < span.end_time_unix_nano);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_a_trace_of_its_take_its_run_and_its_delivery() {
    let collector = Collector::start(Manner::Takes).await;
    let platform = Platform::builder().start().await.unwrap();
    let worker = worker(&platform, &[], &collector.url);
    let traced = submit(&platform, &json!({"do": "trace", "value": 1}));
    let failing = submit(&platform, &json!({"do": "fail", "message": "no weights"}));
    let waiting = submit(
        &platform,
        &json!({"do": "progress", "values": [1], "value": 2}),
    );
    for id in [&traced, &failing, &waiting] {
        ended(&platform, id).await;
    }
    stop(worker).await;
    let spans = collector.spans();
    assert_eq!(spans.named("job").len(), 3, "{spans:#?}");

    let job = spans.job(&traced);
    assert!(job.parent_span_id.is_empty());
    assert_eq!(names(&spans.children(job)), ["take", "run", "deliver"]);
    check_times(&spans, job);
    assert_eq!(
        attributes(&job.attributes),
        BTreeMap::from([
            ("podwork.job.id".to_owned(), json!(traced)),
            ("podwork.handler".to_owned(), json!("work")),
            ("podwork.worker.id".to_owned(), json!("w")),
            ("podwork.endpoint.id".to_owned(), json!(endpoint(&platform))),
            ("podwork.outcome".to_owned(), json!("completed")),
        ])
    );
    assert_eq!(status(job).0, 0);
    // The handler's spans of level `INFO` and above are inside the run span.
    let run = spans.child(job, "run");
    assert_eq!(names(&spans.children(run)), ["model"]);
    let model = spans.child(run, "model");
    assert_eq!(attributes(&model.attributes)["size"], 7);
    assert!(run.start_time_unix_nano <= model.start_time_unix_nano);
    assert!(model.end_time_unix_nano <= run.end_time_unix_nano);
    let layer = spans.child(model, "layer");
    assert!(spans.children(layer).is_empty());

    let job = spans.job(&failing);
    check_times(&spans, job);
    assert_eq!(status(job), (2, "failed".to_owned()));
    let run = spans.child(job, "run");
    assert_eq!(status(run), (2, "no weights".to_owned()));
    assert_eq!(attributes(&run.attributes)["error.type"], "handler_error");
    assert_eq!(status(spans.child(job, "deliver")).0, 0);

    let job = spans.job(&waiting);
    check_times(&spans, job);
    let run = spans.child(job, "run");
    let took = run.end_time_unix_nano - run.start_time_unix_nano;
    assert!(took >= 300_000_000, "{took}");
    let deliver = attributes(&spans.child(job, "deliver").attributes);
    assert_eq!(deliver["podwork.posts"], 2, "the progress and the result");
    assert_eq!(deliver["podwork.retries"], 0);

    assert_eq!(collector.resource()["service.name"], "podwork-test-worker");
}

fn endpoint(platform: &Platform) -> String {
    let env = platform.worker_env("w");
    let id = env
        .into_iter()
        .find(|(name, _)| *name == "RUNPOD_ENDPOINT_ID");
    id.unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_has_no_delivery_span() {
    let collector = Collector::start(Manner::Takes).await;
    let platform = Platform::builder().start().await.unwrap();
    let variables = [
        ("OTEL_SERVICE_NAME", "captions"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s3cret"),
    ];
    let mut worker = binary(&[], &collector.url, &variables)
        .env(platform.worker_env("w"))
        .start();
    let id = submit(&platform, &json!({"do": "wait"}));
    worker.line("Started.").await;
    platform.cancel(&id).unwrap();
    worker.line("Cancelled.").await;
    stop(worker).await;
    let spans = collector.spans();
    let job = spans.job(&id);
    assert_eq!(names(&spans.children(job)), ["take", "run"]);
    assert_eq!(attributes(&job.attributes)["podwork.outcome"], "stopped");
    assert_eq!(status(job).0, 0);
    assert_eq!(collector.resource()["service.name"], "captions");
    assert_eq!(collector.got.key.borrow().as_ref().unwrap(), "s3cret");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_delivery_span_records_retries_and_a_refusal() {
    let tries = AtomicUsize::new(0);
    let platform = Scripted::start(move |request: &Recorded, before| {
        let input = json!({"do": "echo", "value": 1});
        match (request.call(), before) {
            ("job-take-batch", 0) => {
                let jobs = ["retried", "refused"].map(|id| json!({"id": id, "input": input}));
                Answer::Json(200, json!(jobs))
            }
            ("job-take-batch" | "job-take" | "job-stop", _) => Answer::Hold,
            // Refuses the output, but accepts the error that reports the refusal.
            ("job-done", _) if request.path.ends_with("refused") => {
                let refused = request.body.contains("\"output\"");
                Answer::Status(if refused { 400 } else { 200 })
            }
            ("job-done", _) if tries.fetch_add(1, Ordering::SeqCst) == 0 => Answer::Status(503),
            _ => Answer::Status(200),
        }
    })
    .await;
    let collector = Collector::start(Manner::Takes).await;
    let worker = binary(&[], &collector.url, &[])
        .env(platform.env("w"))
        .start();
    platform.until_count("job-done", 4).await;
    stop(worker).await;
    let spans = collector.spans();
    let job = spans.job("retried");
    check_times(&spans, job);
    assert_eq!(status(job).0, 0);
    let deliver = attributes(&spans.child(job, "deliver").attributes);
    assert_eq!(deliver["podwork.posts"], 1);
    assert_eq!(deliver["podwork.retries"], 1);
    let job = spans.job("refused");
    check_times(&spans, job);
    let refused = (2, "refused".to_owned());
    assert_eq!(status(job), refused);
    assert_eq!(status(spans.child(job, "run")).0, 0);
    let deliver = spans.child(job, "deliver");
    assert_eq!(status(deliver), refused);
    let deliver = attributes(&deliver.attributes);
    assert_eq!(deliver["podwork.posts"], 2, "the result and its error");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_name_comes_from_the_attributes_or_the_program() {
    for (said, name) in [
        ("service.name = captions", "captions"),
        ("k8s.service.name=other", "podwork-test-worker"),
    ] {
        let collector = traced(&[("OTEL_RESOURCE_ATTRIBUTES", said)]).await;
        assert_eq!(collector.resource()["service.name"], name, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_does_not_affect_traces() {
    for level in ["NOTSET", "ERROR", "TRACE"] {
        let collector = Collector::start(Manner::Takes).await;
        let platform = Platform::builder().start().await.unwrap();
        let mut worker = binary(&[], &collector.url, &[("RUNPOD_LOG_LEVEL", level)])
            .env(platform.worker_env("w"))
            .start();
        let id = submit(&platform, &json!({"do": "trace", "value": 1}));
        ended(&platform, &id).await;
        worker.signal("-TERM").await;
        let mut log = String::new();
        while let Some(line) = worker.next_line().await {
            log += &line;
        }
        assert_eq!(worker.code().await, Some(0));
        assert_eq!(log.contains("Started."), level == "TRACE", "{log}");
        let spans = collector.spans();
        let run = spans.child(spans.job(&id), "run");
        assert_eq!(names(&spans.children(run)), ["model"], "{level}");
        let model = spans.child(run, "model");
        assert_eq!(names(&spans.children(model)), ["layer"], "{level}");
        assert_eq!(
            spans.0.len(),
            6,
            "no spans of the exporter itself: {spans:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_no_span_that_the_sampler_drops() {
    let collector = Collector::start(Manner::Takes).await;
    let platform = Platform::builder().start().await.unwrap();
    let worker = binary(
        &[],
        &collector.url,
        &[("OTEL_TRACES_SAMPLER", "always_off")],
    )
    .env(platform.worker_env("w"))
    .start();
    let traced = json!({"do": "trace", "value": 1});
    let last = ended(&platform, &submit(&platform, &traced)).await;
    assert_eq!(last.status.as_str(), "COMPLETED");
    stop(worker).await;
    assert!(collector.spans().0.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_a_trace_of_its_own_that_links_its_jobs() {
    let collector = Collector::start(Manner::Takes).await;
    let platform = Platform::builder().start().await.unwrap();
    let ids: Vec<_> = ["a", "bc"]
        .iter()
        .map(|text| submit(&platform, &json!(text)))
        .collect();
    let worker = worker(&platform, &["batch", "1000"], &collector.url);
    for id in &ids {
        ended(&platform, id).await;
    }
    stop(worker).await;
    let spans = collector.spans();
    let [batch] = spans.named("batch")[..] else {
        panic!("{spans:#?}");
    };
    let mut linked = Vec::new();
    for id in &ids {
        let job = spans.job(id);
        check_times(&spans, job);
        let run = spans.child(job, "run");
        assert_eq!(attributes(&run.attributes)["podwork.batch.jobs"], 2);
        linked.push(run.span_id.clone());
    }
    let mut links: Vec<_> = batch
        .links
        .iter()
        .map(|link| link.span_id.clone())
        .collect();
    links.sort();
    linked.sort();
    assert_eq!(links, linked);
    assert_eq!(names(&spans.children(batch)), ["measure"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_links_all_its_jobs() {
    const JOBS: usize = 150;
    let collector = Collector::start(Manner::Takes).await;
    let platform = Platform::builder().start().await.unwrap();
    let ids: Vec<_> = (0..JOBS).map(|_| submit(&platform, &json!("a"))).collect();
    // An invalid number is ignored, so the default applies.
    let variables = [("OTEL_SPAN_LINK_COUNT_LIMIT", "many")];
    let jobs = JOBS.to_string();
    let worker = binary(&["batch", "30000", &jobs], &collector.url, &variables)
        .env(platform.worker_env("w"))
        .start();
    for id in &ids {
        ended(&platform, id).await;
    }
    stop(worker).await;
    let spans = collector.spans();
    assert_eq!(spans.named("batch")[0].links.len(), JOBS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_subscriber_exports_handler_spans_only_with_the_layer() {
    for (own, inside) in [
        ("layer", vec!["model"]),
        ("filtered", vec![]),
        ("log", vec![]),
    ] {
        let collector = Collector::start(Manner::Takes).await;
        let platform = Platform::builder().start().await.unwrap();
        let worker = worker(&platform, &[own], &collector.url);
        let id = submit(&platform, &json!({"do": "trace", "value": 1}));
        ended(&platform, &id).await;
        stop(worker).await;
        let spans = collector.spans();
        let job = spans.job(&id);
        check_times(&spans, job);
        let run = spans.child(job, "run");
        assert_eq!(names(&spans.children(run)), inside, "{own}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_collector_causes_one_warning_and_nothing_else() {
    let collector = Collector::start(Manner::Fails).await;
    let platform = Platform::builder().start().await.unwrap();
    let mut worker = binary(&[], &collector.url, &[("OTEL_BSP_SCHEDULE_DELAY", "20")])
        .env(platform.worker_env("w"))
        .start();
    let echo = json!({"do": "echo", "value": 1});
    for exports in 1..=3 {
        let last = ended(&platform, &submit(&platform, &echo)).await;
        assert_eq!(last.status.as_str(), "COMPLETED");
        collector.until_exports(exports).await;
    }
    worker.signal("-TERM").await;
    let mut warnings = 0;
    while let Some(line) = worker.next_line().await {
        warnings += usize::from(line.contains("Traces cannot be exported"));
        assert!(!line.contains("opentelemetry"), "{line}");
    }
    assert_eq!(warnings, 1);
    assert_eq!(worker.code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_an_export_if_the_collector_is_busy() {
    let collector = Collector::start(Manner::IsBusy).await;
    let platform = Platform::builder().start().await.unwrap();
    let mut worker = worker(&platform, &[], &collector.url);
    let id = submit(&platform, &json!({"do": "echo", "value": 1}));
    ended(&platform, &id).await;
    worker.signal("-TERM").await;
    while let Some(line) = worker.next_line().await {
        assert!(!line.contains("exported"), "{line}");
    }
    assert_eq!(worker.code().await, Some(0));
    let tries: Vec<_> = collector.got.exports.borrow().clone();
    assert_eq!(tries.len(), 2);
    assert_eq!(tries[0], tries[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_over_tls_only_to_a_trusted_collector() {
    let (acceptor, trusted) = certified("localhost");
    let (_, other) = certified("localhost");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let listener = Tls { listener, acceptor };
    let collector = Collector::serve(listener, url, Manner::Takes);
    let folder = tempfile::tempdir().unwrap();
    let platform = Platform::builder().start().await.unwrap();
    let mut traced = Vec::new();
    for (name, certificate) in [("trusted", trusted), ("other", other)] {
        let file = folder.path().join(name);
        std::fs::write(&file, certificate).unwrap();
        let certificates = [("SSL_CERT_FILE", file.to_str().unwrap())];
        let mut worker = binary(&[], &collector.url, &certificates)
            .env(platform.worker_env("w"))
            .start();
        let id = submit(&platform, &json!({"do": "echo", "value": 1}));
        ended(&platform, &id).await;
        worker.signal("-TERM").await;
        if name == "other" {
            let line = worker.line("Traces cannot be exported").await;
            assert!(line.contains("certificate is not accepted"), "{line}");
        }
        assert_eq!(worker.code().await, Some(0));
        traced.push(id);
    }
    let spans = collector.spans();
    assert_eq!(spans.named("job"), [spans.job(&traced[0])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_collector_delays_neither_jobs_nor_shutdown() {
    let away = StdListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", away.local_addr().unwrap());
    drop(away);
    let platform = Platform::builder().start().await.unwrap();
    let worker = worker(&platform, &[], &url);
    let echo = json!({"do": "echo", "value": 1});
    for _ in 0..20 {
        let last = ended(&platform, &submit(&platform, &echo)).await;
        assert_eq!(last.status.as_str(), "COMPLETED");
    }
    let told = Instant::now();
    stop(worker).await;
    let took = told.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_collector_delays_no_job_and_shutdown_by_at_most_4_s() {
    let collector = Collector::start(Manner::Holds).await;
    let platform = Platform::builder().start().await.unwrap();
    // The queue holds far fewer spans than the jobs produce.
    let variables = [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "8"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4"),
    ];
    let mut worker = binary(&[], &collector.url, &variables)
        .env(platform.worker_env("w"))
        .start();
    let echo = json!({"do": "echo", "value": 1});
    for _ in 0..50 {
        let last = ended(&platform, &submit(&platform, &echo)).await;
        assert_eq!(last.status.as_str(), "COMPLETED");
    }
    collector.until_exports(1).await;
    let told = Instant::now();
    worker.signal("-TERM").await;
    let line = worker.line("The last traces").await;
    assert!(
        line.contains("not exported in time") && line.contains("limit_ms=4000"),
        "{line}"
    );
    assert_eq!(worker.code().await, Some(0));
    let took = told.elapsed();
    assert!(took < Duration::from_secs(9), "{took:?}");
}

#[tokio::test]
async fn refuses_to_start_with_invalid_export_settings() {
    for (name, value, says) in [
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "grpc",
            "`grpc`: unsupported protocol; set it to http/protobuf, and the endpoint to the collector's port for \
             OTLP over HTTP (4318)\n",
        ),
        (
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "gzip",
            "`gzip`: compression is not supported; set it to none\n",
        ),
        (
            "OTEL_TRACES_SAMPLER",
            "always_of",
            "`always_of`: unsupported sampler; set it to always_on, always_off, traceidratio, or one of these with \
             the prefix parentbased_\n",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "collector:4318",
            "`collector:4318`: it does not start with http:// or https://; set it to a collector's URL, such as \
             http://localhost:4318\n",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "https://me:hush@my host/v1/traces?key=hush",
            "`…@my host/v1/traces`: invalid uri character; set it to a collector's URL, such as \
             http://localhost:4318\n",
        ),
        (
            "OTEL_BSP_SCHEDULE_DELAY",
            "0",
            "`0`: not a whole number above 0, or too large; set it to milliseconds, such as 5000\n",
        ),
    ] {
        let said = binary(&[], "http://localhost:4318", &[(name, value)]);
        assert_eq!(said.complaint().await, format!("error: {name} is {says}"));
    }
    // The variable of the specification turns the export off, so the other settings are not checked.
    let off = [("OTEL_SDK_DISABLED", "true")];
    let output = binary(
        &["--test_input", r#"{"input": {"do": "echo", "value": 1}}"#],
        "not a url",
        &off,
    );
    assert_eq!(output.output().await.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_specific_variables_override_general_ones() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
    ];
    let collector = traced(&variables).await;
    assert_eq!(collector.spans().named("job").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_async_main_gets_the_error_of_invalid_export_settings() {
    let nowhere = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| (name, "/nowhere"));
    let platform = Platform::builder().start().await.unwrap();
    for args in [&["serve"][..], &["serve", "layer"]] {
        let worker = |url, variables| binary(args, url, variables).env(platform.worker_env("w"));
        let said = worker("http://not a host", &[]).complaint().await;
        assert!(
            said.starts_with("error: OTEL_EXPORTER_OTLP_ENDPOINT is `http://not a host`: "),
            "{said}"
        );
        let said = worker("https://collector:4318", &nowhere).complaint().await;
        assert!(
            said.starts_with("error: cannot create the HTTP client (does the image contain"),
            "{said}"
        );
    }
}
