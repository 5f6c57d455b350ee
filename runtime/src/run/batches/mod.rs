//! Batching: jobs wait for others, and the handler runs them together.
//!
//! Each job keeps its own outbox, tokens and span; only the call of the handler is shared. The code that runs a job
//! holds a ticket for the job's part of the call. A job that is cancelled before its batch starts leaves the queue. If
//! it is cancelled later, its part of the result is discarded, and the call continues for the other jobs.

mod call;
mod queue;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::error::HandlerError;
use crate::handler::{Batching, Call, Context, Outcome, Weighing, Work};
use crate::jobs::Jobs;
use crate::telemetry::BatchReason;

pub(crate) use call::ReadyBatch;
use queue::{NextBatch, Queue, WaitingJob};

/// The batch settings of the builder, which override those of the handler's attribute.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BatchOverrides {
    /// The maximum number of jobs in a batch.
    pub(crate) jobs: Option<usize>,
    /// The maximum time that a job waits for others.
    pub(crate) wait: Option<Duration>,
    /// The maximum total weight of a batch.
    pub(crate) weight: Option<usize>,
}

impl BatchOverrides {
    /// Returns the batching of the handler, with these settings applied.
    pub(crate) fn applied_to<S, T>(self, batching: Batching<S, T>) -> Batching<S, T> {
        Batching {
            max_batch: self.jobs.unwrap_or(batching.max_batch).max(1),
            max_wait: self.wait.unwrap_or(batching.max_wait),
            weighing: batching.weighing.map(|weighing| Weighing {
                max: self.weight.unwrap_or(weighing.max),
                ..weighing
            }),
            ..batching
        }
    }
}

/// The jobs of a worker that wait for their batch.
pub(crate) struct Batches<S, T> {
    batching: Batching<S, T>,
    state: Arc<S>,
    jobs: Arc<Jobs>,
    // Never held across an await.
    queue: Mutex<Queue<T>>,
    queued: Notify,
}

/// A sender that is dropped to notify a job that the handler no longer holds it.
pub(crate) type Release = oneshot::Sender<Infallible>;

/// The next step of [`Batches::release`].
enum Next<T> {
    Go(ReadyBatch<T>),
    /// Wait for a change, at most until the given time.
    Wait(Option<Instant>),
}

impl<S, T> fmt::Debug for Batches<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batches")
    }
}

impl<S, T> Batches<S, T> {
    /// Creates an empty queue. Batches get their permits from `jobs`.
    pub(crate) fn new(batching: Batching<S, T>, jobs: Arc<Jobs>, state: Arc<S>) -> Arc<Self> {
        Arc::new(Self {
            batching,
            state,
            jobs,
            queue: Mutex::new(Queue::default()),
            queued: Notify::new(),
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        // No code panics while it holds the lock, so a poisoned queue is still consistent.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a job's part of the call of its batch. The batch holds the job until it drops `release`, even if the
    /// reply is no longer awaited.
    pub(crate) fn join(self: Arc<Self>, call: Call<S>, release: Release) -> Work
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
    {
        Work::Async(Box::pin(async move {
            // Parsed before the job joins the batch, so that an invalid input takes no room in the batch, and the other
            // jobs need not wait while a large one is parsed.
            let input = (self.batching.input)(&call)?;
            let weighing = self.batching.weighing.as_ref();
            let weight = weighing.map_or(0, |weighing| (weighing.weight)(&input));
            let mut ticket = self.enter(input, weight, call.context(), release);
            drop(call);
            ticket.outcome().await
        }))
    }

    fn enter(
        self: Arc<Self>,
        input: T,
        weight: usize,
        context: Context,
        release: Release,
    ) -> BatchTicket<S, T> {
        let (answer, answered) = oneshot::channel();
        let wakes = self.queue().push(
            WaitingJob {
                since: Instant::now(),
                weight,
                input,
                context,
                answer,
                release,
            },
            &self.batching,
        );
        if wakes {
            self.queued.notify_one();
        }
        BatchTicket {
            batches: self,
            answered,
            over: false,
        }
    }

    /// Passes each ready batch to `start`, and never returns. Once `drain` is cancelled, jobs no longer wait for
    /// others. Supports a single caller.
    pub(crate) async fn release(
        self: Arc<Self>,
        drain: &CancellationToken,
        start: impl Fn(ReadyBatch<T>),
    ) {
        loop {
            let (queued, room) = (self.queued.notified(), self.jobs.batch_room());
            let draining = drain.is_cancelled();
            match self.next(draining) {
                Next::Go(batch) => start(batch),
                Next::Wait(due) => tokio::select! {
                    () = queued => {}
                    () = room => {}
                    () = until(due) => {}
                    () = drain.cancelled(), if !draining => {}
                },
            }
        }
    }

    fn next(&self, draining: bool) -> Next<T> {
        let mut queue = self.queue();
        let Some(first) = queue.first() else {
            return Next::Wait(None);
        };
        // `None`: the time limit overflows, so the job waits without a limit.
        let due = first.since.checked_add(self.batching.max_wait);
        let NextBatch { jobs, full } = queue.next_batch(&self.batching);
        let reason = if full {
            BatchReason::Full
        } else if draining {
            BatchReason::Draining
        } else if due.is_some_and(|due| Instant::now() >= due) {
            BatchReason::Waited
        } else {
            return Next::Wait(due);
        };
        match self.jobs.permit_batch() {
            Some(permit) => Next::Go(ReadyBatch::new(permit, reason, queue.take(jobs))),
            // Only a permit helps now, so there is no time limit.
            None => Next::Wait(None),
        }
    }
}

/// A job's part of a batch. Dropping it before the outcome arrives removes the job from the queue.
struct BatchTicket<S, T> {
    batches: Arc<Batches<S, T>>,
    answered: oneshot::Receiver<Outcome>,
    /// The batch has sent the outcome.
    over: bool,
}

impl<S, T> BatchTicket<S, T> {
    async fn outcome(&mut self) -> Outcome {
        let outcome = (&mut self.answered).await;
        self.over = true;
        // Every batch sends an outcome, unless it panics, or the runtime is shutting down, which posts no result.
        outcome.unwrap_or_else(|_| {
            let why =
                "panicked: the batch of the job ended without an outcome; see the worker's log";
            Err(HandlerError::panicked(why.to_owned()))
        })
    }
}

impl<S, T> Drop for BatchTicket<S, T> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.answered.close();
        let left = self.batches.queue().remove_left();
        if left.is_some() {
            self.batches.queued.notify_one();
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
