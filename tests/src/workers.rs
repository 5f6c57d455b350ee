//! Workers in the test's own process.

use podwork::state::StateSource;
use podwork::{Error, Handler, Worker};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A worker that runs beside the test.
#[derive(Debug)]
pub struct Running {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Error>>,
}

/// Starts a worker with these variables.
pub fn start<H, S>(worker: Worker<H, S>, env: Vec<(&'static str, String)>) -> Running
where
    H: Handler,
    S: StateSource<H::State>,
{
    start_on(&Handle::current(), worker, env)
}

/// … whose handlers run on a runtime of their own, which they may block.
pub fn start_on<H, S>(
    handlers: &Handle,
    worker: Worker<H, S>,
    env: Vec<(&'static str, String)>,
) -> Running
where
    H: Handler,
    S: StateSource<H::State>,
{
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        // A dropped sender says the same.
        let _ = stopped.await;
    };
    let ended = handlers.spawn(worker.env(env).serve(shutdown));
    Running { stop, ended }
}

impl Running {
    /// Tells the worker to end, and waits until it has.
    ///
    /// # Errors
    /// What the worker ended with.
    ///
    /// # Panics
    /// The worker panicked.
    pub async fn stop(self) -> Result<(), Error> {
        // It may have ended by itself.
        let _ = self.stop.send(());
        self.ended.await.expect("the worker does not panic")
    }

    /// Waits until the worker ends by itself.
    ///
    /// # Errors
    /// What the worker ended with.
    ///
    /// # Panics
    /// The worker panicked.
    pub async fn ended(self) -> Result<(), Error> {
        // Keeps the sender: dropping it would tell the worker to end.
        let Self { stop, ended } = self;
        let result = ended.await.expect("the worker does not panic");
        drop(stop);
        result
    }
}
