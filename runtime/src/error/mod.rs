//! Why a worker could not start, or had to end.

pub(crate) mod handler_error;
mod outcome;

pub use handler_error::{HandlerError, Result};
pub(crate) use outcome::JobOutcome;

/// Why a worker could not start, or had to end. Errors of single jobs are [`HandlerError`]s.
///
/// `Display` does not repeat the [source](std::error::Error::source): whoever prints an error prints the chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An environment variable is needed and not set.
    #[error("{variable} is not set, and {because}; set it to {expected}")]
    MissingVariable {
        /// Its name.
        variable: &'static str,
        /// Why it is needed.
        because: &'static str,
        /// What it should hold.
        expected: &'static str,
    },

    /// An environment variable holds what cannot be used.
    #[error("{variable} is `{value}`: {problem}; set it to {expected}")]
    MalformedVariable {
        /// Its name.
        variable: &'static str,
        /// What it holds.
        value: String,
        /// What is wrong with that.
        problem: String,
        /// What it should hold.
        expected: &'static str,
    },

    /// A command line flag, or what stands behind it, cannot be used.
    #[error("{flag}: {problem}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What is wrong, and what to write instead.
        problem: String,
    },

    /// The test input cannot be used.
    #[error("{source_name}: {problem}")]
    TestInput {
        /// The file, or the flag.
        source_name: String,
        /// What is wrong, and what to write instead.
        problem: String,
    },

    /// The worker's set-up failed.
    #[error("the worker's set-up failed: {}", .0.trace())]
    Setup(HandlerError),

    /// A fitness check failed: the machine is not fit for this worker.
    #[error("the fitness check `{check}` failed: {}", .failure.trace())]
    Unfit {
        /// The check's name.
        check: String,
        /// What it says.
        failure: HandlerError,
    },

    /// The worker took no more jobs, since its health check failed for too long, or its breaker tripped.
    #[error("the worker is unhealthy ({check}): {reason}")]
    Unhealthy {
        /// `health` or `breaker`.
        check: String,
        /// What is wrong.
        reason: String,
    },

    /// The local test job failed; its error was shown.
    #[error("the test job ended {status}")]
    TestJob {
        /// The job's status.
        status: &'static str,
    },

    /// The local test job's result is not the one that was expected.
    #[error("--test_output: the result differs\n  expected {expected}\n  got      {got}")]
    TestOutput {
        /// The JSON that was expected.
        expected: String,
        /// The JSON of the result.
        got: String,
    },

    /// The operating system refused what the worker cannot do without: a thread, a signal handler, a socket.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: std::io::Error,
    },

    /// The worker cannot listen for direct calls.
    #[error("cannot listen at {address} (RUNPOD_REALTIME_PORT)")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        source: std::io::Error,
    },

    /// Metrics cannot be served where they are asked for.
    #[cfg(feature = "metrics")]
    #[error(
        "metrics cannot be served at {addr} (choose another port, by PODWORK_METRICS_PORT or Worker::metrics)"
    )]
    Metrics {
        /// Where.
        addr: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },

    /// What the environment says of a collector of traces cannot be used.
    #[cfg(feature = "otel")]
    #[error("traces cannot be exported: {0}; see OTEL_EXPORTER_OTLP_ENDPOINT and its like")]
    Traces(String),

    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be set up (does the image hold CA certificates?)")]
    HttpClient(#[source] std::io::Error),

    /// The local platform could not start.
    #[cfg(feature = "local")]
    #[error(transparent)]
    Platform(#[from] podwork_platform::Error),

    /// The worker was told to end, and not all of its jobs could end before it.
    #[error("shut down with {jobs} job(s) unfinished")]
    Unfinished {
        /// How many.
        jobs: usize,
    },
}
