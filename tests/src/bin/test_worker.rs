//! A worker for tests, with odd handlers: what a job does is in its input's `do`.
//!
//! `podwork-test-worker` serves one result a job; `podwork-test-worker stream` serves streams; `podwork-test-worker batch`
//! the lengths of texts, in batches; `podwork-test-worker upload` what it uploaded.

use podwork::{Batch, Context, ExitCode, Result, Stream, Worker, handler, try_stream};
use serde::Deserialize;
use serde_json::Value;

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
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            }
            Ok(value)
        }
        Task::Large { bytes } => Ok("x".repeat(bytes).into()),
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

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("stream") => Worker::new::<stream>().aggregate_stream(true).run(),
        Some("batch") => podwork::run::<lengths>(),
        #[cfg(feature = "upload")]
        Some("upload") => podwork::run::<save>(),
        _ => Worker::new::<work>().concurrency(2).run(),
    }
}
