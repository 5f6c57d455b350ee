//! Threads for blocking work, and guards for tasks that must not end unnoticed.
//!
//! The system may refuse to start a thread, for example at a container's limit on processes. Tokio reports that by a
//! panic, which here is an error.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tracing::error;

use crate::error::handler_error::error_kind;
use crate::error::panics;

/// The reason why blocking work has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ThreadError {
    #[error(
        "cannot start a thread: {0}; raise the container's limit on processes (pids), or lower the concurrency"
    )]
    Refused(String),
    /// The runtime has dropped the work, or the work has panicked.
    #[error("the async runtime is shutting down")]
    ShutDown,
}

error_kind!(ThreadError, "no_thread");

impl From<ThreadError> for io::Error {
    fn from(error: ThreadError) -> Self {
        Self::other(error)
    }
}

impl ThreadError {
    /// Creates the error from the message of tokio's panic.
    fn refused(why: &str) -> Self {
        let why = why.strip_prefix("OS can't spawn worker thread: ");
        Self::Refused(why.unwrap_or("no thread is available").to_owned())
    }
}

/// Blocking work that runs on a thread of a runtime's pool. Dropping this does not stop the work.
#[derive(Debug)]
pub(crate) struct BlockingTask<T>(oneshot::Receiver<T>);

impl<T> BlockingTask<T> {
    /// Returns whether the work has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_terminated() || !self.0.is_empty()
    }
}

impl<T> Future for BlockingTask<T> {
    type Output = Result<T, ThreadError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready(ended.map_err(|_| ThreadError::ShutDown))
    }
}

/// Runs `work` on a thread of the runtime's pool for blocking work.
///
/// # Errors
/// Returns an error, and drops `work`, if the pool has no thread and the system refuses to start one.
pub(crate) fn spawn_blocking<T: Send + 'static>(
    runtime: &Handle,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<BlockingTask<T>, ThreadError> {
    let (done, result) = oneshot::channel();
    let work = Arc::new(Mutex::new(Some(move || {
        // The caller may no longer wait for the result.
        let _ = done.send(work());
    })));
    let queued = Arc::clone(&work);
    let spawned = panics::expecting(|| {
        runtime.spawn_blocking(move || take(&queued).map(|work| work()));
    });
    match spawned {
        Err(why) if take(&work).is_some() => {
            // The closure without its work stays in the queue of the runtime, and later does nothing.
            Err(ThreadError::refused(&why))
        }
        // With an error, another thread of the pool has already taken the work from the queue.
        _ => Ok(BlockingTask(result)),
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Starts a runtime with `workers` threads.
///
/// # Errors
/// Returns an error if the system refuses to start a thread.
pub(crate) fn start_runtime(builder: &mut Builder, workers: usize) -> io::Result<Runtime> {
    // If the system refuses any thread but the first, tokio waits forever for the others to end.
    if workers > 1 {
        try_threads(workers)?;
    }
    let started = panics::expecting(|| builder.build());
    started.unwrap_or_else(|why| Err(ThreadError::refused(&why).into()))
}

/// Starts `count` threads at the same time, and ends them.
fn try_threads(count: usize) -> Result<(), ThreadError> {
    let gate = RwLock::new(());
    thread::scope(|scope| {
        let _closed = gate.write();
        for _ in 0..count {
            let started = thread::Builder::new().spawn_scoped(scope, || drop(gate.read()));
            started.map_err(|error| ThreadError::Refused(error.to_string()))?;
        }
        Ok(())
    })
}

/// Runs `work` like [`spawn_blocking`] on the current runtime, and waits for its result.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ThreadError> {
    spawn_blocking(&Handle::current(), work)?.await
}

/// Waits for a future. A panic is an error, which contains its message.
pub(crate) async fn guarded<F: Future>(future: F) -> Result<F::Output, String> {
    let ended = AssertUnwindSafe(future).catch_unwind().await;
    ended.map_err(|payload: Box<dyn Any + Send>| panics::text(&*payload))
}

/// Runs an endless task. If it panics, logs that and starts it again after `pause`.
pub(crate) async fn restarted<F: Future<Output = Infallible>>(
    task: &'static str,
    pause: Duration,
    mut start: impl FnMut() -> F,
) -> Infallible {
    loop {
        match guarded(async { start().await }).await {
            Ok(never) => match never {},
            Err(why) => {
                let delay_ms = pause.as_millis();
                let logging = async {
                    error!(task, delay_ms, error = %why, "A task of the worker panicked; restarting it.");
                };
                // A `tracing` subscriber that has panicked may panic again.
                let _ = guarded(logging).await;
                tokio::time::sleep(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn blocking_work_returns_its_result() {
        assert_eq!(blocking(|| 7).await, Ok(7));
        let mut task = spawn_blocking(&Handle::current(), || 8).unwrap();
        assert_eq!((&mut task).await, Ok(8));
        assert!(task.is_finished());
    }

    #[test]
    fn work_for_a_runtime_that_has_shut_down_is_dropped() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let task = spawn_blocking(&handle, || 7).unwrap();
        assert_eq!(task.now_or_never(), Some(Err(ThreadError::ShutDown)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_task_that_panics_is_started_again() {
        let mut starts = 0;
        let task = restarted("test", Duration::from_secs(5), || {
            starts += 1;
            let fails = starts < 3;
            async move {
                assert!(!fails, "it fails");
                std::future::pending().await
            }
        });
        let waited = tokio::time::timeout(Duration::from_mins(1), task).await;
        assert!(waited.is_err());
        assert_eq!(starts, 3);
    }
}
