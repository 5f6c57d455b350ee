//! A worker runtime for serverless GPU platforms: write a `#[handler]` function, start it, and it serves jobs on
//! [Runpod Serverless](https://docs.runpod.io/serverless/overview) as the platform's own worker would.
//!
//! ```no_run
//! use podwork::handler;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Greet {
//!     name: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Greeting {
//!     text: String,
//! }
//!
//! #[handler]
//! async fn greet(input: Greet) -> Greeting {
//!     Greeting { text: format!("Hello, {}!", input.name) }
//! }
//!
//! fn main() -> podwork::ExitCode {
//!     podwork::run::<greet>()
//! }
//! ```
//!
//! - [`macro@handler`] tells which functions can be handlers: `async fn`, `fn`, streams and iterators; with an input, the
//!   worker's state and a [`Context`], in any order.
//! - [`Batch`] hands jobs that wait to a handler together.
//! - [`Worker`] is the builder: set-up, concurrency, shutdown.
//! - [`testing`] runs a handler as a job inside a test.
//!
//! # Where it runs
//!
//! On the platform the environment tells the worker where to pull jobs from. Without that environment the same binary
//! runs the job in `test_input.json` on a platform of its own, in the same process (feature `local`, on by default):
//!
//! | flag | what it does |
//! |---|---|
//! | `--test_input JSON` | runs this job, instead of the one in `test_input.json` |
//! | `--test_output JSON` | compares the result, such as `{"output": …}`, and exits with 1 if it differs |
//! | `--rp_serve_api` | serves `/run`, `/runsync`, `/status`, `/stream`, `/cancel` … for a `curl` or any client SDK |
//! | `--rp_api_host HOST`, `--rp_api_port PORT` | … there; `localhost` and 8000 unless set |
//! | `--rp_api_concurrency N` | … with this many jobs at once |
//! | `--rp_schema` | prints what the handler takes and gives as JSON Schema, and exits; see [`handler`](macro@handler) |
//! | `--rp_log_level LEVEL` | ERROR, WARN, INFO, DEBUG, TRACE or NOTSET |
//! | `--rp_debugger` | logs at DEBUG |
//!
//! All other arguments are left to your program, and so is everything after `--`.
//!
//! # While the platform does not answer
//!
//! What a job has to say waits in its outbox: chunks in order, the latest progress, the end. Each post is tried until it
//! is accepted, refused for good, or [too old](Worker::delivery_deadline); a refusal becomes the job's error. A handler
//! that yields chunks waits once 1024 of them, or 8 MiB, are in its outbox.
//!
//! An ended job makes room for the next at once. But the worker takes no more while 64 MiB of ended jobs are yet to be
//! delivered, or as many jobs as run at once (at least 8). So what waits in memory is at most those 64 MiB, and one
//! outbox and one result (10 MB, or 20 MB by `/runsync`) of each job that runs.
//!
//! A handler that blocks where it should await holds up others of its kind, but neither takes and posts nor heartbeats
//! and signals: those have threads of their own.
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | `local` (on unless default features are off) | the local platform in the worker |
//! | `gpu` (on unless default features are off) | the GPU check at start |
//! | `download` | the module `files`: downloads from the URLs in a job's input, and what is in archives |
//! | `upload` | `files::Upload`: files to S3-compatible storage, for URLs in the output |
//! | `schema` | `#[handler(schema)]` and `--rp_schema`: input and output as JSON Schema |
//! | `validate` | `#[handler(validate)]`: inputs are checked by the rules of their type |
//! | `metrics` | `Worker::metrics`: figures for Prometheus |
//! | `otel` | a trace of each job, by OTLP; the module `otel` |
//! | `cache` | the module `cache`: directories that a network volume keeps warm, and the platform's cached models |
//!
//! # Panics
//!
//! A handler that panics fails its own job and no other. With `panic = "abort"` in the profile nothing can be caught,
//! and a panic ends the worker with all its jobs: leave it at `unwind`.

#![cfg_attr(docsrs, feature(doc_cfg))]

// The rooms follow the way of a job, from the start of the worker down to the network. Each imports only from those
// below it; `tests/tests/house.rs` checks that.

// Runs handlers and whole workers inside a test.
pub mod testing;

// What the output of the macros calls.
#[doc(hidden)]
pub mod macro_support;

// The builder, the command line, and the ways to start.
mod launch;

// The platform inside the worker: `--test_input` and `--rp_serve_api`.
#[cfg(feature = "local")]
mod local;

// Jobs by direct HTTP calls in place of a poll: the realtime server.
mod http;

// Start-up, the loops of a running worker, and its orderly end.
mod worker;

// The poll loop, the concurrency, and the channel of cancellations.
mod take;

// One job from its arrival to its result, alone or in a batch.
mod run;

// Fitness checks, the health check, the breaker, and the heartbeat.
pub mod health;

// Downloads, archives and uploads.
#[cfg(any(feature = "download", feature = "upload"))]
pub mod files;

// The handler's contract: its inputs, its context, its state, and how it is executed.
mod handler;

// The jobs in flight.
mod jobs;

// One ordered outbox a job, and the loop that posts it.
mod delivery;

// The calls of the wire.
mod platform_client;

// Logs, metrics and traces.
mod telemetry;

// Directories that a network volume keeps warm.
#[cfg(all(feature = "cache", unix))]
pub mod cache;

// The environment, read once.
mod config;

// HTTP, TLS, the guard of addresses, backoff and checksums.
mod net;

// Why a worker ended, and why a job failed.
mod error;

// Old names, as compile errors that name the new ones.
mod renamed;

// The version, as the worker reports it.
mod version;

pub use std::process::ExitCode;

pub use async_stream::{stream, try_stream};
pub use error::{Error, HandlerError, Result};
pub use futures::Stream;
pub use handler::{Batch, BatchHandler, Context, Handler, HandlerKind, Input, Output};
#[cfg(feature = "schema")]
pub use handler::{DescribedHandler, schema};
pub use launch::{Worker, run};
/// Makes a function a handler: what a worker calls for each job.
///
/// The function stays as it stands, so tests can call it. Beside it the macro puts a hidden type of the same name, and
/// that is what [`run`] and [`Worker::new`] are told: `podwork::run::<greet>()`.
///
/// # What it runs as
///
/// | written | run |
/// |---|---|
/// | `async fn … -> T` | on the async runtime; a stopped job is dropped at its next `.await` |
/// | `fn … -> T` | on a thread for blocking work, so that it may hold a GPU or a CPU for long; it asks [`Context::is_cancelled`] |
/// | `fn …` or `async fn … -> impl Stream<Item = T>` | on the async runtime; each item is a chunk |
/// | `fn … -> impl Iterator<Item = T>` | on a thread for blocking work; each item is a chunk |
///
/// `T` is any [`serde::Serialize`] type, or a `Result` of one with any error. An `Err` fails the job, and ends a
/// stream. Where the return type does not show that it is a stream or an iterator, say so: `#[handler(stream)]` for a
/// `BoxStream`, `#[handler(iterator)]` for a `Vec` or a `Box<dyn Iterator>`.
///
/// # Chunks that wait
///
/// Chunks are posted one after the other, and each post takes a round trip. A handler that is faster than that waits
/// once its outbox is full (1024 chunks, or 8 MiB). With `#[handler(join)]`, chunks that wait together are posted as
/// one, up to the platform's limit of 1 MB: strings one behind the other, arrays with their items in one. So distance
/// does not hold up a generator of tokens; but `/stream` then lists fewer and longer chunks. Chunks of other types are
/// never joined.
///
/// # Several jobs at once
///
/// A function that takes a [`Batch<T>`](Batch) in place of an input is called once for the jobs that wait, and returns a
/// `Vec` with one entry for each: `T` or a `Result`, as above. It may be a `Result` of such a `Vec`, whose `Err` fails
/// them all. It yields no chunks. A batch goes when it is full, by `#[handler(max_batch = 16, max_wait = "5ms")]`, which
/// is what holds unless it is said, or when its first job has waited for so long. Both may be constants, and
/// [`Worker::max_batch`] and [`Worker::max_wait`] have the last word. With `weight = Prompt::tokens, max_weight = 4096` it
/// is full, too, when the next job's input would make it heavier than that.
///
/// A job that is stopped before its batch goes is taken out; later, the call goes on for the others. An `Err` entry fails
/// its own job. A panic, or another number of entries than of jobs, fails each job of the batch.
///
/// # What it tells, and what it checks
///
/// With `#[handler(schema)]` (feature `schema`) the types of its input and its output tell what it takes and gives: they
/// derive `schemars::JsonSchema`. The worker prints it for its flag `--rp_schema`, and the local platform shows it. With
/// `#[handler(validate)]` (feature `validate`) an input is checked before the handler sees it: its type derives
/// `garde::Validate`. One that breaks rules fails its job with all of them and their places.
///
/// # What it is given
///
/// Its parameters, in any order, each at most once:
/// - the job's input, by value: any [`serde::Deserialize`] type; `serde_json::Value` takes anything; or a [`Batch`] of
///   those of several jobs, by that name;
/// - the worker's state, as a shared reference: made by [`Worker::setup`] or [`Worker::state`];
/// - the job's [`Context`], by that name.
///
/// # Examples
///
/// ```
/// use podwork::{Context, Result, Stream, handler, try_stream};
///
/// struct Model;
/// impl Model {
///     async fn next_word(&self, after: &str) -> Result<Option<String>> {
///         Ok((after != "be").then(|| "be".to_owned()))
///     }
/// }
///
/// #[handler] // one output
/// async fn word(prompt: String, model: &Model) -> Result<Option<String>> {
///     model.next_word(&prompt).await
/// }
///
/// #[handler] // one output, from blocking work
/// fn checksum(data: Vec<u8>) -> u32 {
///     data.iter().map(|byte| u32::from(*byte)).sum()
/// }
///
/// #[handler] // many outputs; `yield` stands in `stream!` or `try_stream!`
/// fn words(prompt: String, model: &Model, cx: Context) -> impl Stream<Item = Result<String>> {
///     try_stream! {
///         let mut last = prompt;
///         while let Some(word) = model.next_word(&last).await? {
///             cx.progress(&word);
///             yield word.clone();
///             last = word;
///         }
///     }
/// }
///
/// #[handler] // many outputs, from blocking work
/// fn count(upto: u32) -> impl Iterator<Item = u32> {
///     1..=upto
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// assert_eq!(word("be".into(), &Model).await.unwrap(), None); // still functions
/// # use podwork::testing::TestJob;
/// # use serde_json::json;
/// # let job = TestJob::new(json!("to")).state(Model).run::<words>().await;
/// # assert_eq!(job.outputs, [json!("be")]);
/// # let job = TestJob::new(json!(3)).run::<count>().await;
/// # assert_eq!(job.outputs, [json!(1), json!(2), json!(3)]);
/// # let job = TestJob::new(json!([1, 2])).run::<checksum>().await;
/// # assert_eq!(job.result.unwrap(), json!(3));
/// # });
/// ```
pub use podwork_macros::handler;
#[cfg(feature = "schema")]
pub use podwork_protocol::HandlerSchema;
pub use version::VERSION;

/// Has a function check the machine before the worker takes its first job: that a file is there, a licence answers, a
/// GPU computes.
///
/// It takes nothing, may be async, and fails by an `Err` of any error or by a panic. Then the worker logs why, reports
/// itself unhealthy under the function's name, and exits with 1. Checks run on the platform only, never locally, before
/// the set-up, one after the other in the order in which they stand in the source (by file, then line), after the
/// worker's own:
///
/// | checked | unless | by |
/// |---|---|---|
/// | memory that is available, by the container's limit and the machine's | `RUNPOD_SKIP_AUTO_SYSTEM_CHECKS=true` | `RUNPOD_MIN_MEMORY_GB` (GiB; 0 unless it is set) |
/// | disk that is free on `/` | the same | `RUNPOD_MIN_DISK_PERCENT` (10 unless it is set) |
/// | every GPU answers the driver (feature `gpu`; passed over where the driver's library is not) | `RUNPOD_SKIP_GPU_CHECK=true` | `RUNPOD_GPU_COUNT`, if the platform sets it |
///
/// A check that needs more than a function goes to [`Worker::fitness_check`].
///
/// ```standalone_crate
/// #[podwork::fitness_check]
/// fn weights_are_mounted() -> podwork::Result<()> {
///     std::fs::metadata("/runpod-volume/weights.safetensors")?;
///     Ok(())
/// }
/// ```
pub use podwork_macros::fitness_check;

pub use handler::state;

/// Metrics of your own: what [`Worker::own_metrics`] registers, re-exported from [`prometheus_client`].
#[cfg(feature = "metrics")]
pub mod metrics {
    pub use prometheus_client::metrics::{counter, family, gauge, histogram, info};
    pub use prometheus_client::{collector, encoding, registry};
}

/// Traces of jobs, for programs with a `tracing` subscriber of their own.
#[cfg(feature = "otel")]
pub mod otel {
    pub use crate::telemetry::traces::layer;
}
