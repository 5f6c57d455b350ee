//! The execution of a handler: as a future, or on a blocking thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tracing::Span;

use crate::error::HandlerError;
use crate::threads::{BlockingTask, spawn_blocking};

use super::Work;

/// A blocking thread that runs a handler.
type Thread<T> = BlockingTask<Result<T, HandlerError>>;

/// A handler that executes one call.
pub(crate) enum Execution<T> {
    Async(BoxFuture<'static, Result<T, HandlerError>>),
    Blocking(Thread<T>),
    /// The handler panicked before its work began, or there is no thread for it.
    Failed(HandlerError),
}

impl<T: Send + 'static> Execution<T> {
    pub(crate) fn begin(call: impl FnOnce() -> Work<T>) -> Self {
        let begun = catch_unwind(AssertUnwindSafe(|| match call() {
            Work::Async(future) => Self::Async(future),
            Work::Blocking(work) => Self::on_thread(work),
        }));
        begun.unwrap_or_else(|payload| Self::Failed(HandlerError::panic(&*payload)))
    }

    fn on_thread(work: impl FnOnce() -> Result<T, HandlerError> + Send + 'static) -> Self {
        let span = Span::current();
        let guarded = move || {
            catch_unwind(AssertUnwindSafe(work))
                .unwrap_or_else(|payload| Err(HandlerError::panic(&*payload)))
        };
        match spawn_blocking(&Handle::current(), move || span.in_scope(guarded)) {
            Ok(thread) => Self::Blocking(thread),
            Err(error) => Self::Failed(HandlerError::no_thread(error)),
        }
    }

    /// Waits for the outcome. After it has returned, do not call it again.
    pub(crate) async fn outcome(&mut self) -> Result<T, HandlerError> {
        match self {
            Self::Async(future) => AssertUnwindSafe(future)
                .catch_unwind()
                .await
                .unwrap_or_else(|payload| Err(HandlerError::panic(&*payload))),
            // Panics are caught on the thread, so an error here means that the runtime is shutting down.
            Self::Blocking(thread) => thread
                .await
                .unwrap_or_else(|_| Err(HandlerError::interrupted())),
            Self::Failed(failure) => Err(failure.clone()),
        }
    }

    /// Ends the execution early. Drops a future. Returns a thread that is still running, because a thread cannot be
    /// ended from outside.
    pub(crate) fn end(
        self,
        outcome: Result<T, HandlerError>,
    ) -> (Result<T, HandlerError>, Option<Thread<T>>) {
        match self {
            Self::Async(future) => {
                // A destructor of the handler's values may panic. That, too, fails only this job.
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
                let dropped = dropped.map_err(|payload| HandlerError::panic(&*payload));
                (outcome.and_then(|output| dropped.map(|()| output)), None)
            }
            Self::Blocking(thread) => {
                (outcome, Some(thread).filter(|thread| !thread.is_finished()))
            }
            Self::Failed(_) => (outcome, None),
        }
    }
}
