//! Jobs that wait for others, to be handed to their handler together.
//!
//! Each job keeps its own outbox, reins and span, and only the call is shared: what runs a job waits here for its share
//! of it. A job that is stopped before its batch is handed over leaves; one that is stopped later has its share thrown
//! away, and the call goes on for the others.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info, info_span, warn};

use crate::delivery::outbox::Closed;
use crate::handler::Batch;
use crate::handler::Context;
use crate::handler::execution::{Work, ended_with_worker};
use crate::handler::{Batching, Call, Outcome, Reply, Weighing};
use crate::jobs::slots::Slots;
use crate::telemetry::{Reason, Telemetry};

/// What the builder says in place of the handler's attribute.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    /// Most of one batch.
    pub(crate) jobs: Option<usize>,
    pub(crate) wait: Option<Duration>,
    /// Most of one batch.
    pub(crate) weight: Option<usize>,
}

/// The jobs of a worker that wait to be handed over, and how many batches are with the handler.
pub(crate) struct Batches<S, T> {
    batching: Batching<S, T>,
    state: Arc<S>,
    // Never held across an await.
    queue: Mutex<Queue<T>>,
    changed: Notify,
}

struct Queue<T> {
    /// In the order in which they came.
    waiting: VecDeque<Waiting<T>>,
    running: usize,
    /// Of those that run, the ones whose jobs have all left.
    stuck: usize,
    limit: usize,
}

impl<T> Queue<T> {
    /// What the next batch would be made of.
    fn batch<S>(&self, batching: &Batching<S, T>) -> Gathered {
        let most = self.waiting.len().min(batching.max_batch);
        let full = most == batching.max_batch;
        let Some(Weighing { max, .. }) = batching.weighing else {
            return Gathered { jobs: most, full };
        };
        let mut weight = 0_usize;
        for (jobs, job) in self.waiting.iter().take(most).enumerate() {
            weight = weight.saturating_add(job.weight);
            // One that is too heavy for any batch goes alone.
            if weight > max && jobs > 0 {
                return Gathered { jobs, full: true };
            }
        }
        Gathered {
            jobs: most,
            full: full || weight >= max,
        }
    }
}

/// The first jobs of those that wait.
struct Gathered {
    jobs: usize,
    /// The next one has no room beside them.
    full: bool,
}

struct Waiting<T> {
    since: Instant,
    /// 0 where jobs are not weighed.
    weight: usize,
    input: T,
    context: Context,
    answer: oneshot::Sender<Outcome>,
    held: Held,
}

/// Tells its job, by being dropped, that no handler has it any more.
pub(crate) type Held = oneshot::Sender<Infallible>;

impl<T> Waiting<T> {
    /// Nobody waits for it any more.
    fn has_left(&self) -> bool {
        self.answer.is_closed()
    }
}

/// What is to be done next.
enum Next<T> {
    HandOver(Reason, Vec<Waiting<T>>),
    /// Wait for a change; at most until then, if there is a job that the handler could take.
    Wait(Option<Instant>),
}

impl<S, T> fmt::Debug for Batches<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batches")
    }
}

impl<S, T> Batches<S, T> {
    pub(crate) fn new(batching: Batching<S, T>, limits: Limits, state: Arc<S>) -> Arc<Self> {
        if limits.weight.is_some() && batching.weighing.is_none() {
            warn!(
                "`max_weight` is set, but the handler does not say what a job weighs: write `#[handler(weight = …)]`."
            );
        }
        Arc::new(Self {
            batching: Batching {
                max_batch: limits.jobs.unwrap_or(batching.max_batch).max(1),
                max_wait: limits.wait.unwrap_or(batching.max_wait),
                weighing: batching.weighing.map(|weighing| Weighing {
                    max: limits.weight.unwrap_or(weighing.max),
                    ..weighing
                }),
                ..batching
            },
            state,
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                running: 0,
                stuck: 0,
                limit: 1,
            }),
            changed: Notify::new(),
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        // No code panics while it holds the lock, so a poisoned queue is still a good one.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Most jobs of one batch.
    pub(crate) fn max_batch(&self) -> usize {
        self.batching.max_batch
    }

    /// How many batches may be with the handler at once.
    pub(crate) fn set_limit(&self, batches: usize) {
        let before = mem::replace(&mut self.queue().limit, batches);
        if before < batches {
            self.changed.notify_one();
        }
    }

    /// A job's part in the call of a batch; that has the job for as long as it is `held`, whether this is awaited or not.
    pub(crate) fn join(self: Arc<Self>, call: Call<S>, held: Held) -> Reply
    where
        S: Send + Sync + 'static,
        T: Send + 'static,
    {
        Reply::Async(Box::pin(async move {
            // Here and not in the batch: so a bad input takes no place in it, and the others need not wait for a large
            // one to be read.
            let input = (self.batching.input)(&call)?;
            let weighing = self.batching.weighing.as_ref();
            let weight = weighing.map_or(0, |weighing| (weighing.weight)(&input));
            let mut share = self.enter(input, weight, call.context(), held);
            drop(call);
            share.outcome().await
        }))
    }

    fn enter(
        self: Arc<Self>,
        input: T,
        weight: usize,
        context: Context,
        held: Held,
    ) -> Share<S, T> {
        let (answer, answered) = oneshot::channel();
        let (waiting, full) = {
            let mut queue = self.queue();
            queue.waiting.push_back(Waiting {
                since: Instant::now(),
                weight,
                input,
                context,
                answer,
                held,
            });
            (queue.waiting.len(), queue.batch(&self.batching).full)
        };
        // Those between the first and the last change nothing.
        if waiting == 1 || full {
            self.changed.notify_one();
        }
        Share {
            batches: self,
            answered,
            over: false,
        }
    }

    /// A batch of this size has no jobs any more, and the handler still has it. Also how many jobs are not to be taken
    /// for as long, beside those of the batch, which keep their slots: the rest of its share; and those that would be
    /// ready for the next free place, if there is none left.
    fn get_stuck(&self, size: usize) -> (Stuck<'_, S, T>, usize) {
        let mut queue = self.queue();
        queue.stuck += 1;
        let most = self.batching.max_batch;
        let next = if queue.stuck < queue.limit { 0 } else { most };
        (Stuck(self), (most - size).saturating_add(next))
    }

    /// Takes out a job that has left.
    fn leave(&self) {
        let left = {
            let mut queue = self.queue();
            let at = queue.waiting.iter().position(Waiting::has_left);
            at.and_then(|at| queue.waiting.remove(at))
        };
        if left.is_some() {
            self.changed.notify_one();
        }
    }

    /// Hands each batch that is to go to `start`, for ever. Once `drain` says that no more jobs are taken, none waits
    /// for others. Meant for one caller.
    pub(crate) async fn release(
        self: Arc<Self>,
        drain: &CancellationToken,
        start: impl Fn(Together<S, T>),
    ) {
        loop {
            let changed = self.changed.notified();
            let draining = drain.is_cancelled();
            match self.next(draining) {
                Next::HandOver(reason, jobs) => start(Together {
                    place: Place(Arc::clone(&self)),
                    reason,
                    jobs,
                }),
                Next::Wait(due) => tokio::select! {
                    () = changed => {}
                    () = until(due) => {}
                    () = drain.cancelled(), if !draining => {}
                },
            }
        }
    }

    fn next(&self, draining: bool) -> Next<T> {
        let mut queue = self.queue();
        let Some(first) = queue
            .waiting
            .front()
            .filter(|_| queue.running < queue.limit)
        else {
            return Next::Wait(None);
        };
        // `None`: it may wait for as long as it takes.
        let due = first.since.checked_add(self.batching.max_wait);
        let Gathered { jobs, full } = queue.batch(&self.batching);
        let reason = if full {
            Reason::Full
        } else if draining {
            Reason::Draining
        } else if due.is_some_and(|due| Instant::now() >= due) {
            Reason::Waited
        } else {
            return Next::Wait(due);
        };
        queue.running += 1;
        Next::HandOver(reason, queue.waiting.drain(..jobs).collect())
    }
}

/// A job's part in a batch; the job leaves when this is dropped.
struct Share<S, T> {
    batches: Arc<Batches<S, T>>,
    answered: oneshot::Receiver<Outcome>,
    /// The batch has answered.
    over: bool,
}

impl<S, T> Share<S, T> {
    async fn outcome(&mut self) -> Outcome {
        let outcome = (&mut self.answered).await;
        self.over = true;
        // Every batch answers, unless the runtime is ending.
        outcome.unwrap_or_else(|_| Err(ended_with_worker()))
    }
}

impl<S, T> Drop for Share<S, T> {
    fn drop(&mut self) {
        if !self.over {
            self.answered.close();
            self.batches.leave();
        }
    }
}

/// A batch with the handler that has no jobs any more, until this is dropped.
struct Stuck<'a, S, T>(&'a Batches<S, T>);

impl<S, T> Drop for Stuck<'_, S, T> {
    fn drop(&mut self) {
        self.0.queue().stuck -= 1;
    }
}

/// A batch's place with the handler, until it is dropped.
struct Place<S, T>(Arc<Batches<S, T>>);

impl<S, T> Drop for Place<S, T> {
    fn drop(&mut self) {
        self.0.queue().running -= 1;
        self.0.changed.notify_one();
    }
}

/// Jobs that go to the handler together.
pub(crate) struct Together<S, T> {
    place: Place<S, T>,
    reason: Reason,
    jobs: Vec<Waiting<T>>,
}

impl<S: Send + Sync + 'static, T: Send + 'static> Together<S, T> {
    /// Calls the handler, and gives each job its outcome. Returns when the handler has ended indeed, or the worker's
    /// time is `over`.
    pub(crate) async fn run(
        self,
        over: CancellationToken,
        telemetry: Telemetry,
        slots: Arc<Slots>,
    ) {
        let Self {
            place,
            reason,
            jobs,
        } = self;
        // Since it was released, some may have left. What their inputs do when they are dropped is not the others' affair.
        let (left, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(Waiting::has_left);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(left)));
        if jobs.is_empty() {
            return;
        }
        let spans = jobs.iter().map(|job| job.context.span());
        telemetry.batch(jobs.len(), reason, spans);
        let span = span(&jobs);
        Self::call(&place.0, reason, jobs, over, &slots)
            .instrument(span)
            .await;
    }

    async fn call(
        batches: &Batches<S, T>,
        reason: Reason,
        jobs: Vec<Waiting<T>>,
        over: CancellationToken,
        slots: &Arc<Slots>,
    ) {
        let size = jobs.len();
        info!("A batch of {size} goes to the handler: {reason}.");
        let (jobs, (mut answers, held)): (Vec<_>, (Vec<_>, Vec<_>)) = jobs
            .into_iter()
            .map(|job| ((job.input, job.context), (job.answer, job.held)))
            .unzip();
        let state = Arc::clone(&batches.state);
        let mut work = Work::begin(|| (batches.batching.call)(Batch::new(jobs), state));
        let outcomes = tokio::select! {
            biased;
            outcomes = work.outcome() => outcomes,
            () = all_left(&mut answers) => Err(Closed.into()),
        };
        let (outcomes, thread) = work.end(outcomes);
        if let Some(thread) = thread {
            warn!(
                "All its jobs have ended, and its handler has yet to see that; no others are asked for in their place until then."
            );
            // Those would wait for as long.
            let (_stuck, fewer) = batches.get_stuck(size);
            let _held_back = slots.hold_back(fewer);
            over.run_until_cancelled(thread).await;
        }
        drop(held);
        match outcomes {
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    // Who has left needs none.
                    let _ = answer.send(outcome);
                }
            }
            Err(failure) => {
                let mut failure = failure.in_batch(size);
                for answer in answers {
                    if answer.send(Err(failure.clone())).is_ok() {
                        failure = failure.repeated();
                    }
                }
            }
        }
    }
}

/// A job that is alone has its own span; several share one, which follows from theirs.
fn span<T>(jobs: &[Waiting<T>]) -> Span {
    if let [only] = jobs {
        return only.context.span().clone();
    }
    let span = info_span!("batch", jobs = jobs.len());
    for job in jobs {
        span.follows_from(job.context.span());
    }
    span
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

async fn all_left(answers: &mut [oneshot::Sender<Outcome>]) {
    for answer in answers {
        answer.closed().await;
    }
}

#[cfg(test)]
mod tests;
