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
    /// error in one line and returns exit code 1. That includes a call inside an async runtime, such as in a `main`
    /// with `#[tokio::main]`: call [`serve`](Self::serve) there.
    ///
    /// If the program has no default provider of rustls, this method installs ring.
    ///
    /// If the worker is process 1 of a container, this method starts the program again as a child and does not return:
    /// the child runs the jobs, and process 1 passes signals on, collects orphaned processes, and exits with the exit
    /// code of the child. So `main` runs up to this call in both processes. Load what is large in
    /// [`setup`](Self::setup). `PODWORK_INIT=0` disables this.
    pub fn run(self) -> ExitCode
    where
        S: StateSource<H::State>,
    {
        let worker = self.into_any();
        #[cfg(unix)]
        if super::init::is_wanted(|name| worker.lookup(name)) {
            // Frees the state and the ports that the child needs.
            drop(worker);
            return super::init::run();
        }
        worker.run()
    }

    /// Fetches and runs jobs until `shutdown` completes, then waits for the jobs in flight.
    ///
    /// Handlers and the set-up run on the caller's async runtime, which must be tokio's. Polling and delivery run on a
    /// separate thread. This method reads the environment, but not the command line, handles no signals, and sets up no
    /// log. If the program has no default provider of rustls, it installs ring. If the future is dropped, the worker
    /// ends immediately.
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
