//! A worker runtime for serverless GPU platforms. Write a `#[handler]` function and [`run`] it: it serves jobs on
//! [Runpod Serverless](https://docs.runpod.io/serverless/overview), like the platform's official worker.
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
//! The name of the handler stands between angle brackets, because it is a type: `run::<greet>()`, not `run(greet)`.
//! In a program with `#[tokio::main]`, use [`Worker::serve`] instead of [`run`].
//!
//! - [`macro@handler`] describes the functions that can be handlers: `async fn`, `fn`, streams and iterators. Their
//!   parameters are an input, the worker's state and a [`Context`], in any order. A [`Reply`] is one output or a
//!   stream, chosen for each job.
//! - [`Batch`] passes several waiting jobs to a handler at once.
//! - [`Worker`] is the builder, with options for the set-up, concurrency and shutdown.
//! - [`testing`] runs a handler as a job inside a test.
//!
//! # On the platform and locally
//!
//! On the platform, environment variables contain the URLs that the worker polls and posts to. Without them, the same
//! binary runs the job in `test_input.json` on a local platform in the same process (feature `local`, enabled by
//! default). These flags change what it does:
//!
//! | flag | effect |
//! |---|---|
//! | `--test_input JSON` | runs this job instead of the one in `test_input.json` |
//! | `--test_output JSON` | compares the result with this one, such as `{"output": …}`; exits with 1 if they differ |
//! | `--rp_serve_api` | serves `/run`, `/runsync`, `/status`, `/stream`, `/cancel`, … for `curl` or a client SDK |
//! | `--rp_api_host HOST` | sets the host to listen on; default: `localhost` |
//! | `--rp_api_port PORT` | sets the port to listen on; default: 8000 |
//! | `--rp_api_concurrency N` | sets the maximum number of concurrent jobs |
//! | `--rp_schema` | prints the JSON Schema of the input and the output, and exits; see [`handler`](macro@handler) |
//! | `--rp_log_level LEVEL` | sets the log level: ERROR, WARN, INFO, DEBUG, TRACE or NOTSET |
//! | `--rp_debugger` | sets the log level to DEBUG |
//!
//! All other arguments, and everything after `--`, are left to your program.
//!
//! # Delivery
//!
//! The outbox of a job queues its posts: the chunks in order, the latest progress, and the result. Each post is retried
//! until the platform accepts it, rejects it permanently, or the [deadline](Worker::delivery_deadline) passes. If a
//! chunk or the result is not accepted, the job fails with that error. A handler that yields chunks waits while 1024
//! chunks or 8 MiB are in its outbox.
//!
//! A job frees its slot as soon as it ends, even if its result is not delivered yet. The worker stops polling while
//! 64 MiB of ended jobs wait for delivery, or as many ended jobs as there are slots (at least 8). So the memory for
//! pending posts is limited to these 64 MiB, plus one outbox and one result (10 MB, or 20 MB for `/runsync`) for each
//! running job.
//!
//! A handler that blocks where it should await delays other async handlers. It does not delay polls, posts, heartbeats
//! or signals, which have their own threads.
//!
//! # Features
//!
//! | feature | provides |
//! |---|---|
//! | `local` (default) | the local platform in the worker |
//! | `gpu` (default) | the GPU check at start-up |
//! | `download` | the module `files`: downloads from the URLs in a job's input, and extraction of archives |
//! | `upload` | `files::Upload`: uploads to S3-compatible storage, for URLs in the output |
//! | `schema` | `#[handler(schema)]` and `--rp_schema`: JSON Schema of input and output |
//! | `validate` | `#[handler(validate)]`: validation of inputs by the rules of their type |
//! | `metrics` | `Worker::metrics`: metrics for Prometheus |
//! | `otel` | a trace of each job, exported by OTLP; the module `otel` |
//! | `cache` | the module `cache`: directories that a network volume keeps warm, and the platform's cached models |
//!
//! # Panics
//!
//! A panic in a handler fails only its own job. With `panic = "abort"` in the Cargo profile, panics cannot be caught,
//! so one panic ends the worker with all its jobs. Keep the default, `unwind`.

#![cfg_attr(docsrs, feature(doc_cfg))]

// The modules are layers, from the start of the worker down to the network. Each imports only from those below it;
// `tests/tests/house/modules.rs` checks that.

// Runs handlers and whole workers inside a test.
pub mod testing;

// The functions that the output of the macros calls.
#[doc(hidden)]
pub mod macro_support;

// The builder, the command line, and the ways to start.
mod launch;

// The platform inside the worker: `--test_input` and `--rp_serve_api`.
#[cfg(feature = "local")]
mod local;

// The realtime server: jobs by direct HTTP calls instead of polls.
mod http;

// Start-up, the loops of a running worker, and its shutdown.
mod worker;

// The poll loop, the concurrency limit, and the polls for cancellations.
mod take;

// The run of one job from its arrival to its result, alone or in a batch.
mod run;

// Fitness checks, the health check, the breaker, and the heartbeat.
pub mod health;

// Downloads, archives and uploads.
#[cfg(any(feature = "download", feature = "upload"))]
pub mod files;

// The handler interface: inputs, context, state, and execution.
mod handler;

// The jobs in flight.
mod jobs;

// The ordered outbox of each job, and the loop that posts its content.
mod delivery;

// The client for all calls to the platform.
mod platform_client;

// Logs, metrics and traces.
mod telemetry;

// Directories that a network volume keeps warm.
#[cfg(all(feature = "cache", unix))]
pub mod cache;

// The settings from the environment, read once.
mod config;

// HTTP, TLS, the guard against private addresses, backoff and checksums.
mod net;

// Threads for blocking work, and guards for tasks that must not end unnoticed.
mod threads;
// Standard output, beside the log.
#[cfg(any(feature = "local", feature = "schema"))]
mod output;

// The errors of workers and of jobs.
mod error;
// Standard error. Writing never blocks.
mod stderr;

// Old names of methods, as compile errors that show the new names.
mod renamed;

// The version that the worker reports.
mod version;

pub use std::process::ExitCode;

pub use async_stream::{stream, try_stream};
pub use error::{Error, HandlerError, Result};
pub use futures::Stream;
pub use handler::{Batch, BatchHandler, Context, Handler, HandlerKind, Input, Output, Reply};
#[cfg(feature = "schema")]
pub use handler::{DescribedHandler, schema};
pub use launch::{Worker, run};
/// Turns a function into a handler, which the worker calls for each job.
///
/// The function itself stays unchanged, so tests can call it. The macro adds a hidden type of the same name. Pass this
/// type to [`run`] or [`Worker::new`]: `podwork::run::<greet>()`.
///
/// # Signatures
///
/// | signature | execution |
/// |---|---|
/// | `async fn … -> T` | on the async runtime; a cancelled job is dropped at its next `.await` |
/// | `fn … -> T` | on a blocking thread, so it may occupy a GPU or CPU for long; it checks [`Context::is_cancelled`] |
/// | `fn …` or `async fn … -> impl Stream<Item = T>` | on the async runtime; each item is a chunk |
/// | `fn … -> impl Iterator<Item = T>` | on a blocking thread; each item is a chunk |
/// | `fn …` or `async fn … -> Reply<T>` | as for `T`; a [`Reply`] is one output or a stream, chosen for each job |
///
/// `T` is any [`serde::Serialize`] type, or a `Result` of one with any error. An `Err` fails the job and ends a stream.
/// If the return type does not show that it is a stream or an iterator, add an argument: `#[handler(stream)]` for a
/// `BoxStream`, `#[handler(iterator)]` for a `Vec` or a `Box<dyn Iterator>`.
///
/// # Parameters
///
/// A handler has these parameters, in any order, each at most once:
/// - the job's input, by value: any [`serde::Deserialize`] type. `serde_json::Value` accepts any input. For the inputs
///   of several jobs, use a [`Batch`]; the type must have this name.
/// - the worker's state, as a shared reference. [`Worker::setup`] or [`Worker::state`] provides it.
/// - the job's [`Context`]; the type must have this name.
///
/// # Joined chunks
///
/// Chunks are posted one at a time, and each post takes a network round trip. A handler that yields faster waits while
/// its outbox is full (1024 chunks or 8 MiB). With `#[handler(join)]`, chunks that wait together are joined into one
/// post, up to the platform's limit of 1 MB: strings are concatenated, and arrays are merged into one. So network
/// latency does not throttle a generator of tokens, but `/stream` returns fewer and longer chunks. Chunks of other
/// types are never joined.
///
/// # Batches
///
/// A function with a [`Batch<T>`](Batch) parameter instead of an input is called once for several waiting jobs. It
/// returns a `Vec` with one entry per job: `T` or a `Result`, as above. It may also return a `Result` of such a `Vec`,
/// whose `Err` fails all jobs. It yields no chunks.
///
/// A batch starts when it is full, or when its first job has waited for `max_wait`. The defaults are
/// `#[handler(max_batch = 16, max_wait = "5ms")]`. Both values may be constants. [`Worker::max_batch`] and
/// [`Worker::max_wait`] override them. With `weight = Prompt::tokens, max_weight = 4096`, a batch is also full if the
/// next job's input would exceed the maximum weight.
///
/// A job that is cancelled before its batch starts is removed from it. If it is cancelled later, the call continues for
/// the other jobs. An `Err` entry fails only its own job. A panic, or a wrong number of entries, fails each job of the
/// batch.
///
/// # Schema and validation
///
/// With `#[handler(schema)]` (feature `schema`), the handler has a JSON Schema of its input and its output; their types
/// derive `schemars::JsonSchema`. The worker prints the schema for the flag `--rp_schema`, and the local platform shows
/// it. With `#[handler(validate)]` (feature `validate`), each input is validated before the call; its type derives
/// `garde::Validate`. An invalid input fails its job with an error that lists all violated rules and their fields.
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
/// #[handler] // many outputs; use `yield` inside `stream!` or `try_stream!`
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
/// assert_eq!(word("be".into(), &Model).await.unwrap(), None); // it is still a function
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

/// Registers a function as a fitness check, which checks the machine before the worker polls for its first job. For
/// example, it checks that a file exists, that a licence server responds, or that a GPU works.
///
/// The function has no parameters and may be async. It fails by a panic or an `Err` of any error. Then the worker logs
/// the error, reports itself unhealthy under the function's name, and exits with 1.
///
/// Checks run before the set-up, and only on the platform, never locally. They run one at a time, in the order of the
/// source (by file, then line), after these built-in checks:
///
/// | built-in check | requirement | skipped if |
/// |---|---|---|
/// | memory available, within the container's limit and on the machine | `RUNPOD_MIN_MEMORY_GB` (in GiB; default: 0) | `RUNPOD_SKIP_AUTO_SYSTEM_CHECKS=true` |
/// | disk space free on `/` | `RUNPOD_MIN_DISK_PERCENT` (default: 10) | `RUNPOD_SKIP_AUTO_SYSTEM_CHECKS=true` |
/// | every GPU responds (feature `gpu`) | at least `RUNPOD_GPU_COUNT` GPUs, if the platform sets it | `RUNPOD_SKIP_GPU_CHECK=true`, or the driver library is missing; also if the driver does not respond and `RUNPOD_GPU_COUNT` is 0 or not set |
///
/// For a check that is not a plain function, such as a closure, use [`Worker::fitness_check`].
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

/// Types for your own metrics, which [`Worker::register_metrics`] registers. Re-exported from [`prometheus_client`].
#[cfg(feature = "metrics")]
pub mod metrics {
    pub use prometheus_client::metrics::{counter, family, gauge, histogram, info};
    pub use prometheus_client::{collector, encoding, registry};
}

/// Traces of jobs, for programs with their own `tracing` subscriber.
#[cfg(feature = "otel")]
pub mod otel {
    pub use crate::telemetry::traces::layer;
}
