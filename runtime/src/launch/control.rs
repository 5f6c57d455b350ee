//! The async runtime of the worker's own tasks.

use std::future::Future;
use std::num::NonZero;
use std::thread::available_parallelism;

use futures::future::BoxFuture;
use tokio::runtime::{Builder as Runtime, Handle};

use crate::error::{Error, panics};
use crate::threads::{guarded, start_runtime};

/// The runtime for the worker's own tasks, with one thread. It shuts down when this is dropped. It is not a
/// current-thread runtime, because each wake-up of such a runtime costs a system call, even while it is awake.
pub(super) struct Control(Option<tokio::runtime::Runtime>);

impl Control {
    pub(super) fn start() -> Result<Self, Error> {
        let mut builder = Runtime::new_multi_thread();
        let runtime = started(builder.worker_threads(1).thread_name("podwork-control"), 1)?;
        Ok(Self(Some(runtime)))
    }

    /// Spawns a task on the runtime. The returned future waits for its result.
    pub(super) fn run(
        &self,
        future: BoxFuture<'static, Result<(), Error>>,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let runtime = self.0.as_ref().expect("the runtime exists until drop");
        let running = runtime.spawn(guarded(future));
        async {
            match running.await {
                Ok(ended) => ended.map_err(Error::Panicked)?,
                // The task is never cancelled while the runtime exists.
                Err(lost) => Err(Error::Panicked(lost.to_string())),
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts a runtime with `workers` threads.
pub(super) fn started(
    builder: &mut Runtime,
    workers: usize,
) -> Result<tokio::runtime::Runtime, Error> {
    let started = start_runtime(builder.enable_all(), workers);
    started.map_err(|source| Error::System {
        what: "start an async runtime",
        source,
    })
}

/// Returns the number of threads that tokio starts by default.
pub(super) fn default_workers() -> usize {
    let set = std::env::var("TOKIO_WORKER_THREADS").ok();
    let set = set.and_then(|threads| threads.parse().ok());
    set.unwrap_or_else(|| available_parallelism().map_or(1, NonZero::get))
}

/// Returns an error if this thread is inside an async runtime, and so cannot wait for another one. A thread for
/// blocking work is not, although it has the handle of a runtime. Only an attempt to wait shows the difference.
pub(super) fn outside_runtime() -> Result<(), Error> {
    if Handle::try_current().is_err() {
        return Ok(());
    }
    let probe = started(&mut Runtime::new_current_thread(), 0)?;
    let waited = panics::expecting(|| probe.block_on(std::future::ready(())));
    probe.shutdown_background();
    waited.map_err(|_| Error::InsideRuntime)
}
