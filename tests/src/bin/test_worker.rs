//! A worker for tests. The field `do` of a job's input selects what the job does.
//!
//! The first argument selects the handler and the setup:
//!
//! - no argument: one result per job
//! - `stream`: streams of chunks
//! - `batch [MAX_WAIT_MS] [MAX_BATCH]`: the lengths of texts, in batches
//! - `upload`: the uploaded file
//! - `layer`: a `tracing` subscriber of the program that exports all spans
//! - `filtered`: a subscriber that exports only the spans of this program's own code
//! - `log`: a subscriber that exports no spans
//! - `serve [layer]`: an async `main`, which requests the export layer if `layer` follows

use std::time::Duration;

use podwork::{Batch, Context, ExitCode, Result, Stream, Worker, handler, try_stream};
use serde::Deserialize;
use serde_json::Value;
use tracing::{Instrument as _, debug_span, info_span};
#[cfg(feature = "otel")]
use tracing_subscriber::{
    filter::filter_fn,
    layer::{Identity, Layer as _, SubscriberExt as _},
};

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
    }
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
        Some("stream") => Worker::new::<stream>().aggregate_stream(true).run(),
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
