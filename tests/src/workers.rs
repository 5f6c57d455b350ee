//! Workers that run in the process of the test.

use podwork::state::StateSource;
use podwork::{Error, Handler, Worker};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A worker that runs in the background of a test.
#[derive(Debug)]
pub struct Running {
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Error>>,
}

/// Starts a worker with these environment variables.
pub fn start<H, S>(worker: Worker<H, S>, env: Vec<(&'static str, String)>) -> Running
where
    H: Handler,
    S: StateSource<H::State>,
{
    start_on(&Handle::current(), worker, env)
}

/// Starts a worker like [`start`], but on a separate runtime, which its handlers may block.
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
        // A dropped sender also ends the worker.
        let _ = stopped.await;
    };
    let ended = handlers.spawn(worker.env(env).serve(shutdown));
    Running { stop, ended }
}

impl Running {
    /// Shuts down the worker, and waits until it has ended.
    ///
    /// # Errors
    /// Returns the error with which the worker ended.
    ///
    /// # Panics
    /// Panics if the worker panicked.
    pub async fn stop(self) -> Result<(), Error> {
        // The worker may already have ended.
        let _ = self.stop.send(());
        self.ended.await.expect("the worker does not panic")
    }

    /// Waits until the worker ends on its own.
    ///
    /// # Errors
    /// Returns the error with which the worker ended.
    ///
    /// # Panics
    /// Panics if the worker panicked.
    pub async fn ended(self) -> Result<(), Error> {
        // Keep the sender: dropping it would shut down the worker.
        let Self { stop, ended } = self;
        let result = ended.await.expect("the worker does not panic");
        drop(stop);
        result
    }
}
