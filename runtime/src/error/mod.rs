//! The errors of workers and of jobs.

pub(crate) mod handler_error;
mod outcome;
pub(crate) mod panics;

pub use handler_error::{HandlerError, Result};
pub(crate) use outcome::JobOutcome;

/// The error with which a worker fails to start, or ends. A single job fails with a [`HandlerError`].
///
/// `Display` does not include the [source](std::error::Error::source): print the whole chain to show the causes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A required environment variable is not set.
    #[error("{variable} is not set but required: {because}; set it to {expected}")]
    MissingVariable {
        /// The name of the variable.
        variable: &'static str,
        /// The reason why it is required.
        because: &'static str,
        /// The expected value.
        expected: &'static str,
    },

    /// The value of an environment variable is invalid.
    #[error("{variable} is `{value}`: {problem}; set it to {expected}")]
    MalformedVariable {
        /// The name of the variable.
        variable: &'static str,
        /// The invalid value.
        value: String,
        /// The reason why it is invalid.
        problem: String,
        /// The expected value.
        expected: &'static str,
    },

    /// A command line flag or its value is invalid.
    #[error("{flag}: {problem}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// The reason why it is invalid, and what to write instead.
        problem: String,
    },

    /// The test input is invalid or unreadable.
    #[error("{source_name}: {problem}")]
    TestInput {
        /// The file or the flag that the test input comes from.
        source_name: String,
        /// The reason why it is invalid, and what to write instead.
        problem: String,
    },

    /// The worker's set-up failed.
    #[error("the worker's set-up failed: {}", .0.trace())]
    Setup(HandlerError),

    /// A fitness check failed: the machine is unfit for this worker.
    #[error("the fitness check `{check}` failed: {}", .failure.trace())]
    Unfit {
        /// The name of the check.
        check: String,
        /// The error that the check returned.
        failure: Box<HandlerError>,
    },

    /// The worker stopped polling, since its health check failed for too long or its breaker tripped.
    #[error("the worker is unhealthy ({check}): {reason}")]
    Unhealthy {
        /// `health` or `breaker`.
        check: String,
        /// The reason why the worker is unhealthy.
        reason: String,
    },

    /// The local test job did not complete. If it failed, its error was printed before.
    #[error("the test job did not complete: {status}")]
    TestJob {
        /// The last status of the job, or the reason why the job did not end.
        status: &'static str,
    },

    /// The result of the local test job differs from the expected one.
    #[error("--test_output: the result differs\n  expected {expected}\n  got      {got}")]
    TestOutput {
        /// The expected result, as JSON.
        expected: String,
        /// The actual result, as JSON.
        got: String,
    },

    /// The operating system refused something that the worker requires: a thread, a signal handler or a socket.
    #[error("failed to {what}")]
    System {
        /// The operation that failed, such as `start the heartbeat`.
        what: &'static str,
        /// The cause.
        source: std::io::Error,
    },

    /// The worker cannot listen for realtime calls.
    #[error("cannot listen on {address} (RUNPOD_REALTIME_PORT)")]
    Listen {
        /// The address to listen on.
        address: String,
        /// The cause.
        source: std::io::Error,
    },

    /// The worker cannot serve metrics at the requested address.
    #[cfg(feature = "metrics")]
    #[error(
        "cannot serve metrics on {addr} (set another port with PODWORK_METRICS_PORT or Worker::metrics)"
    )]
    Metrics {
        /// The address to listen on.
        addr: std::net::SocketAddr,
        /// The cause.
        source: std::io::Error,
    },

    /// The environment variables for the export of traces are invalid.
    #[cfg(feature = "otel")]
    #[error("cannot export traces: {0}; check OTEL_EXPORTER_OTLP_ENDPOINT and related variables")]
    Traces(String),

    /// [`Worker::run`](crate::Worker::run) or [`run`](crate::run) was called inside an async runtime.
    #[error(
        "`run` cannot be called inside an async runtime, such as in a `main` with `#[tokio::main]`; write \
         `fn main() -> podwork::ExitCode` without it, or call `serve(shutdown).await` in place of `run()`"
    )]
    InsideRuntime,

    /// The worker itself panicked, which is a bug in this crate.
    #[error("the worker {0}; please report this bug in podwork")]
    Panicked(String),

    /// The HTTP client could not be created.
    #[error("cannot create the HTTP client (does the image contain CA certificates?)")]
    HttpClient(#[source] std::io::Error),

    /// The local platform could not start.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Platform(#[from] podwork_platform::Error),

    /// The worker was asked to shut down, and not all of its jobs finished within the grace period.
    #[error("shut down with {jobs} job(s) unfinished")]
    Unfinished {
        /// The number of unfinished jobs.
        jobs: usize,
    },
}
