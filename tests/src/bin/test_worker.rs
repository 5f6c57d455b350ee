//! A worker for tests, with odd handlers: what a job does is in its input's `do`.
//!
//! `podwork-test-worker` serves one result a job; `podwork-test-worker stream` serves streams; `podwork-test-worker batch`
//! the lengths of texts, in batches, for which they wait so many milliseconds, of so many; `podwork-test-worker upload` what
//! it uploaded. With `layer` it has a `tracing` subscriber of its own that exports spans, with `filtered` one that exports
//! those of its own code alone, with `log` one that does not; with `serve` an async main, which asks for that layer if
//! `layer` follows.

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

/// What a job is to do.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Task {
    /// Returns `value`.
    Echo { value: Value },
    /// Fails with `message`.
    Fail { message: String },
    /// Panics with `message`.
    Panic { message: String },
    /// Waits until it is stopped.
    Wait,
    /// Has the worker replaced.
    Refresh,
    /// Reports `values` one after the other, then waits for the last to be seen, and returns `value`.
    Progress { values: Vec<Value>, value: Value },
    /// Returns a text of this many bytes.
    Large { bytes: usize },
    /// Returns `value`, from within spans.
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
                // Lets the post go out: a later progress may take the place of one that still waits.
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            Ok(value)
        }
        Task::Large { bytes } => Ok("x".repeat(bytes).into()),
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

/// A stream of `chunks`; after them it fails with `error`, if there is one.
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

/// A file of so many bytes, each its place's remainder by 251, to be uploaded under this name.
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

/// Sets up a subscriber of the program's own.
#[cfg(feature = "otel")]
fn subscribe(own: &str) {
    let layer = || podwork::otel::layer().expect("the variables are right");
    let traces = (own != "log").then(layer).flatten();
    let filtered = own == "filtered";
    let passes = filter_fn(move |of| !filtered || of.target().starts_with(module_path!()));
    // What sees all, as a log would.
    let subscriber = tracing_subscriber::registry().with(Identity::new());
    let subscriber = subscriber.with(traces.with_filter(passes));
    tracing::subscriber::set_global_default(subscriber).expect("there is none yet");
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
