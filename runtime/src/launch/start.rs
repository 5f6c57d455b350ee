//! The two ways to start a worker: from its command line, or inside the caller's async runtime.

use std::future::Future;
use std::process::ExitCode;

use crate::error::Error;
use crate::handler::Handler;
use crate::handler::state::{NoState, StateSource};

use super::builder::Worker;

// The bound on `S` is on each method, so that the compiler reports a missing state with the message of `StateSource`.
impl<H: Handler, S> Worker<H, S> {
    /// Runs the worker until it shuts down: on SIGTERM or SIGINT, or when a job requests the worker's replacement.
    ///
    /// On the platform, the worker fetches jobs. Elsewhere, it runs the job in `test_input.json` or `--test_input` on
    /// the local platform, or serves the API of the local platform with `--rp_serve_api`. If the platform sets
    /// `RUNPOD_REALTIME_PORT`, the worker serves `POST /<endpoint>/realtime` on that port instead of fetching jobs.
    /// With `--rp_schema`, it only prints the schema of its handler's input and output.
    ///
    /// This method creates the async runtime, reads the command line and the environment, and writes the log to
    /// standard output unless the program has its own `tracing` subscriber. If the worker cannot run, it reports the
    /// error in one line and returns exit code 1.
    pub fn run(self) -> ExitCode
    where
        S: StateSource<H::State>,
    {
        self.into_any().run()
    }

    /// Fetches and runs jobs until `shutdown` completes, then waits for the jobs in flight.
    ///
    /// Handlers and the set-up run on the caller's async runtime, which must be tokio's. Polling and delivery run on a
    /// separate thread. This method reads the environment, but not the command line, handles no signals, and sets up no
    /// log. If the future is dropped, the worker ends immediately.
    ///
    /// # Errors
    /// Returns an error if the environment names no platform or is invalid, a fitness check or the set-up fails, the
    /// worker becomes unhealthy, or jobs are left unfinished.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error>
    where
        S: StateSource<H::State>,
    {
        self.into_any().serve(shutdown).await
    }
}

/// Runs a worker whose handler needs no state, one job at a time.
///
/// ```no_run
/// #[podwork::handler]
/// async fn greet(name: String) -> String {
///     format!("Hello, {name}!")
/// }
///
/// fn main() -> podwork::ExitCode {
///     podwork::run::<greet>()
/// }
/// ```
pub fn run<H: Handler>() -> ExitCode
where
    NoState: StateSource<H::State>,
{
    Worker::new::<H>().run()
}
