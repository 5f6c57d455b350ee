//! The async runtime of the worker's own tasks.

use std::future::Future;

use futures::future::BoxFuture;
use tokio::runtime::Builder as Runtime;

use crate::error::Error;

/// The runtime for the worker's own tasks, with one thread. It shuts down when this is dropped. It is not a
/// current-thread runtime, because each wake-up of such a runtime costs a system call, even while it is awake.
pub(super) struct Control(Option<tokio::runtime::Runtime>);

impl Control {
    pub(super) fn start() -> Result<Self, Error> {
        let mut builder = Runtime::new_multi_thread();
        let runtime = started(builder.worker_threads(1).thread_name("podwork-control"))?;
        Ok(Self(Some(runtime)))
    }

    /// Spawns a task on the runtime. The returned future waits for its result.
    pub(super) fn run<T: Send + 'static>(
        &self,
        future: BoxFuture<'static, T>,
    ) -> impl Future<Output = T> + Send + use<T> {
        let runtime = self.0.as_ref().expect("the runtime exists until drop");
        let running = runtime.spawn(future);
        async {
            match running.await {
                Ok(ended) => ended,
                // The task is never cancelled while the runtime exists, so it has panicked.
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
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

/// Builds a runtime.
pub(super) fn started(builder: &mut Runtime) -> Result<tokio::runtime::Runtime, Error> {
    builder
        .enable_all()
        .build()
        .map_err(|source| Error::System {
            what: "start an async runtime",
            source,
        })
}
