//! Jobs that wait for others, to go to their handler together.
//!
//! Each job keeps its own outbox, tokens and span; only the call is shared. Whoever runs a job waits here with a ticket
//! for its part of the call. A job that is cancelled before its batch goes leaves the queue; one that is cancelled later
//! has its part thrown away, and the call goes on for the others.

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
use tracing::warn;

use crate::error::HandlerError;
use crate::handler::{Batching, Call, Context, Outcome, Reply, Weighing};
use crate::jobs::Jobs;
use crate::telemetry::BatchReason;

pub(crate) use call::ReadyBatch;
use queue::{NextBatch, Queue, WaitingJob};

/// What the builder says in place of the handler's attribute.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BatchOverrides {
    /// The largest batch, in jobs.
    pub(crate) jobs: Option<usize>,
    /// How long a job waits for others.
    pub(crate) wait: Option<Duration>,
    /// The largest weight of a batch.
    pub(crate) weight: Option<usize>,
}

impl BatchOverrides {
    /// Returns how the handler's jobs are batched, with these settings in place of its attribute's.
    pub(crate) fn applied_to<S, T>(self, batching: Batching<S, T>) -> Batching<S, T> {
        if self.weight.is_some() && batching.weighing.is_none() {
            warn!(
                "`max_weight` is set, but the handler does not say what a job weighs: write `#[handler(weight = …)]`."
            );
        }
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

/// Tells a job, by being dropped, that no handler has it any longer.
pub(crate) type Release = oneshot::Sender<Infallible>;

/// The next thing to do.
enum Next<T> {
    Go(ReadyBatch<T>),
    /// Wait for a change, at most until then.
    Wait(Option<Instant>),
}

impl<S, T> fmt::Debug for Batches<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batches")
    }
}

impl<S, T> Batches<S, T> {
    /// An empty queue; batches take their permits from `jobs`.
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
        // No code panics while it holds the lock, so a poisoned queue is still a good one.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a job's part of a batch's call. The batch has the job until it drops `release`, whether the reply is
    /// awaited or not.
    pub(crate) fn join(self: Arc<Self>, call: Call<S>, release: Release) -> Reply
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
    {
        Reply::Async(Box::pin(async move {
            // Here and not in the batch: so a bad input takes no place in it, and the others need not wait until a large
            // one is read.
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

    /// Hands each batch that is ready to `start`, for ever. Once `drain` says that no more jobs are taken, none waits for
    /// others. Meant for one caller.
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
        // `None`: it may wait for as long as it takes.
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
            // Time changes nothing then.
            None => Next::Wait(None),
        }
    }
}

/// A job's part of a batch. Dropped before its outcome is there, it takes the job out of the queue.
struct BatchTicket<S, T> {
    batches: Arc<Batches<S, T>>,
    answered: oneshot::Receiver<Outcome>,
    /// The batch has answered.
    over: bool,
}

impl<S, T> BatchTicket<S, T> {
    async fn outcome(&mut self) -> Outcome {
        let outcome = (&mut self.answered).await;
        self.over = true;
        // Every batch answers, unless the runtime is ending.
        outcome.unwrap_or_else(|_| Err(HandlerError::interrupted()))
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
