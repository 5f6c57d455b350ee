//! A worker for tests. The field `do` of a job's input selects what the job does.
//!
//! The first argument selects the handler and the setup:
//!
//! - no argument: one result per job
//! - `stream [CONCURRENCY]`: streams of chunks
//! - `batch [MAX_WAIT_MS] [MAX_BATCH]`: the lengths of texts, in batches
//! - `upload`: the uploaded file
//! - `layer`: a `tracing` subscriber of the program that exports all spans
//! - `filtered`: a subscriber that exports only the spans of this program's own code
//! - `log`: a subscriber that exports no spans
//! - `append`: appends a line to a file, on a blocking thread
//! - `store`: writes each number to a file in the job's folder and reads it again, on blocking threads, 8 jobs at once
//! - `panics PHRASE [batch]`: a subscriber that panics at the first event whose message contains the phrase
//! - `openai`: the OpenAI routes, see [`podwork_tests::openai()`]
//! - `stuck`: jobs that never end, and a short grace period
//! - `nested`, `nested-blocking`: `run` inside an async runtime, or on one of its blocking threads
//! - `serve [layer]`: an async `main`, which requests the export layer if `layer` follows

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use podwork::{
    Batch, Context, ExitCode, HandlerError, Result, Stream, Worker, handler, try_stream,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{Instrument as _, debug_span, info_span};
use tracing_subscriber::layer::{self, Layer, SubscriberExt as _};
#[cfg(feature = "otel")]
use tracing_subscriber::{filter::filter_fn, layer::Identity};

/// The task of a job.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Task {
    /// Returns `value`.
    Echo { value: Value },
    /// Fails with `message`.
    Fail { message: String },
    /// Panics with `message`.
    Panic { message: String },
    /// Waits until the job is cancelled.
    Wait,
    /// Requests a refresh of the worker.
    Refresh,
    /// Reports each of `values` as progress, waits until the last one has been posted, and returns `value`.
    Progress { values: Vec<Value>, value: Value },
    /// Returns a text with a length of `bytes`.
    Large { bytes: usize },
    /// Returns the content of a file. A pipe keeps the job running until the test has written to it.
    Read { path: std::path::PathBuf },
    /// Creates spans, and returns `value` from within them.
    Trace { value: Value },
    /// Writes records with the crate `log`, and returns their number.
    Log { records: Vec<String> },
    /// Writes `lines` long lines to the log, and returns their number.
    Flood { lines: usize },
    /// Returns whether rustls has a default provider.
    Tls,
    /// Runs a shell script, and returns its exit code and its standard output.
    Shell { script: String },
}

#[handler]
async fn work(task: Task, cx: Context) -> Result<Value> {
    match task {
        Task::Echo { value } => Ok(value),
        Task::Fail { message } => Err(message.into()),
        Task::Panic { message } => panic!("{message}"),
        Task::Wait => std::future::pending().await,
        Task::Refresh => {
            cx.refresh_worker();
            Ok(Value::Null)
        }
        Task::Progress { values, value } => {
            for progress in values {
                cx.progress(progress);
                // Wait for the post, because newer progress replaces progress that is still queued.
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            Ok(value)
        }
        Task::Large { bytes } => Ok("x".repeat(bytes).into()),
        Task::Read { path } => {
            let read = tokio::task::spawn_blocking(|| std::fs::read_to_string(path));
            Ok(read.await??.into())
        }
        Task::Trace { value } => {
            let layer = async {
                let _hidden = debug_span!("neuron").entered();
                value
            };
            let model = async {
                tokio::task::yield_now().await;
                layer.instrument(info_span!("layer")).await
            };
            Ok(model.instrument(info_span!("model", size = 7)).await)
        }
        Task::Log { records } => {
            for record in &records {
                log::info!(target: "someones_crate::module", "{record}");
                log::debug!("hidden {record}");
            }
            Ok(records.len().into())
        }
        Task::Flood { lines } => {
            for line in 0..lines {
                tracing::info!("{line:0>100}");
            }
            Ok(lines.into())
        }
        Task::Tls => Ok(rustls::crypto::CryptoProvider::get_default()
            .is_some()
            .into()),
        Task::Shell { script } => {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &script]).stderr(Stdio::inherit());
            let output = tokio::task::spawn_blocking(move || shell.output()).await??;
            let printed = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(json!({ "code": output.status.code(), "printed": printed }))
        }
    }
}

/// A line to append to a file.
#[derive(Deserialize)]
struct Append {
    path: std::path::PathBuf,
    line: String,
}

#[handler]
fn append(input: Append) -> Result<usize> {
    use std::io::Write as _;

    let mut file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(&input.path)?;
    writeln!(file, "{}", input.line)?;
    Ok(input.line.len())
}

/// Writes the number to a file, and returns what the file contains.
#[handler]
fn store(number: u64, cx: Context) -> Result<u64> {
    let failed = |error: std::io::Error| HandlerError::new("disk", error.to_string());
    let path = cx.folder().map_err(failed)?.join("number");
    std::fs::write(&path, number.to_string()).map_err(failed)?;
    Ok(std::fs::read_to_string(&path).map_err(failed)?.parse()?)
}

/// Chunks to stream, and an optional error with which the stream then fails.
#[derive(Deserialize)]
struct Chunks {
    chunks: Vec<Value>,
    error: Option<String>,
}

#[handler]
fn stream(input: Chunks) -> impl Stream<Item = Result<Value>> {
    try_stream! {
        for chunk in input.chunks {
            yield chunk;
        }
        if let Some(error) = input.error {
            Err(error)?;
        }
    }
}

#[handler]
fn lengths(texts: Batch<String>) -> Vec<usize> {
    let _span = info_span!("measure").entered();
    texts.iter().map(String::len).collect()
}

/// A file to upload as `name`: `bytes` bytes, each of which is its offset modulo 251.
#[cfg(feature = "upload")]
#[derive(Deserialize)]
struct Save {
    name: String,
    bytes: usize,
}

#[cfg(feature = "upload")]
#[handler]
async fn save(input: Save, cx: Context) -> Result<podwork::files::Uploaded> {
    let bytes: Vec<u8> = (0..=250).cycle().take(input.bytes).collect();
    let uploads = podwork::files::Upload::new(&cx);
    Ok(uploads.reader(&input.name, bytes.as_slice()).await?)
}

/// A layer that panics at the first event whose message contains the phrase.
struct Panics {
    phrase: String,
    done: AtomicBool,
}

impl<S: tracing::Subscriber> Layer<S> for Panics {
    fn on_event(&self, event: &tracing::Event<'_>, _: layer::Context<'_, S>) {
        struct Message(String);

        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }

        let mut message = Message(String::new());
        event.record(&mut message);
        let meant = message.0.contains(&self.phrase) && !self.done.swap(true, Ordering::SeqCst);
        assert!(!meant, "in the subscriber");
    }
}

fn panicking(phrase: String) -> ExitCode {
    let done = AtomicBool::new(false);
    let subscriber = tracing_subscriber::registry().with(Panics { phrase, done });
    tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
    match std::env::args().nth(3).as_deref() {
        Some("batch") => podwork::run::<lengths>(),
        _ => Worker::new::<work>().concurrency(2).run(),
    }
}

/// Blocks its thread forever.
#[handler]
async fn stuck() {
    loop {
        std::thread::park();
    }
}

#[tokio::main]
async fn nested() -> ExitCode {
    podwork::run::<work>()
}

#[tokio::main]
async fn nested_blocking() -> ExitCode {
    let running = tokio::task::spawn_blocking(podwork::run::<work>);
    running.await.expect("no panic")
}

/// Installs a `tracing` subscriber of the program.
#[cfg(feature = "otel")]
fn subscribe(own: &str) {
    let layer = || podwork::otel::layer().expect("the variables are valid");
    let traces = (own != "log").then(layer).flatten();
    let filtered = own == "filtered";
    let passes = filter_fn(move |of| !filtered || of.target().starts_with(module_path!()));
    // A layer that sees all spans, as a log would.
    let subscriber = tracing_subscriber::registry().with(Identity::new());
    let subscriber = subscriber.with(traces.with_filter(passes));
    tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
}

#[cfg(feature = "otel")]
#[tokio::main(flavor = "current_thread")]
async fn serve(layer: bool) -> Result<(), podwork::Error> {
    if layer {
        drop(podwork::otel::layer::<tracing_subscriber::Registry>()?);
    }
    Worker::new::<work>().serve(std::future::pending()).await
}

fn main() -> ExitCode {
    let number = |nth| std::env::args().nth(nth).and_then(|text| text.parse().ok());
    match std::env::args().nth(1).as_deref() {
        Some("stream") => Worker::new::<stream>()
            .aggregate_stream(true)
            .concurrency(number(2).map_or(1, |jobs| usize::try_from(jobs).expect("few")))
            .run(),
        Some("stuck") => Worker::new::<stuck>()
            .shutdown_grace(Duration::from_millis(50))
            .run(),
        Some("openai") => Worker::new::<podwork_tests::openai>()
            .aggregate_stream(true)
            .concurrency(64)
            .run(),
        Some("append") => podwork::run::<append>(),
        Some("store") => Worker::new::<store>().concurrency(8).run(),
        Some("panics") => panicking(std::env::args().nth(2).expect("a phrase")),
        Some("nested") => nested(),
        Some("nested-blocking") => nested_blocking(),
        Some("batch") => Worker::new::<lengths>()
            .max_wait(Duration::from_millis(number(2).unwrap_or(5)))
            .max_batch(number(3).map_or(16, |jobs| usize::try_from(jobs).expect("few")))
            .run(),
        #[cfg(feature = "otel")]
        Some(own @ ("layer" | "filtered" | "log")) => {
            subscribe(own);
            podwork::run::<work>()
        }
        #[cfg(feature = "otel")]
        Some("serve") => match serve(std::env::args().nth(2).as_deref() == Some("layer")) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        },
        #[cfg(feature = "upload")]
        Some("upload") => podwork::run::<save>(),
        _ => Worker::new::<work>().concurrency(2).run(),
    }
}
