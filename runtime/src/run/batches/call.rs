//! The call of the handler with one batch.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info, info_span, warn};

use crate::error::HandlerError;
use crate::handler::execution::Execution;
use crate::handler::{Batch, Outcome};
use crate::jobs::BatchPermit;
use crate::telemetry::{BatchReason, Telemetry};

use super::Batches;
use super::queue::WaitingJob;

/// A batch of jobs that is ready to run.
pub(crate) struct ReadyBatch<T> {
    permit: BatchPermit,
    reason: BatchReason,
    jobs: Vec<WaitingJob<T>>,
}

impl<T> fmt::Debug for ReadyBatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadyBatch").field(&self.jobs.len()).finish()
    }
}

impl<T> ReadyBatch<T> {
    pub(super) fn new(permit: BatchPermit, reason: BatchReason, jobs: Vec<WaitingJob<T>>) -> Self {
        Self {
            permit,
            reason,
            jobs,
        }
    }
}

impl<T: Send + 'static> ReadyBatch<T> {
    /// Calls the handler, and sends each job its outcome. Returns when the handler has returned, or `worker_ended` is
    /// cancelled.
    pub(crate) async fn run<S: Send + Sync + 'static>(
        self,
        batches: Arc<Batches<S, T>>,
        telemetry: Telemetry,
        worker_ended: CancellationToken,
    ) {
        let Self {
            permit,
            reason,
            jobs,
        } = self;
        // Some jobs may have left since the batch became ready. A panic while their inputs are dropped cannot affect
        // the other jobs.
        let (left, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(WaitingJob::has_left);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(left)));
        if jobs.is_empty() {
            return;
        }
        let spans = jobs.iter().map(|job| job.context.span());
        telemetry.batch(jobs.len(), reason, spans);
        let span = span(&jobs);
        span.in_scope(|| info!(jobs = jobs.len(), reason = %reason, "Starting a batch."));
        call(&batches, &permit, jobs, &worker_ended)
            .instrument(span)
            .await;
    }
}

async fn call<S: Send + Sync + 'static, T: Send + 'static>(
    batches: &Batches<S, T>,
    permit: &BatchPermit,
    jobs: Vec<WaitingJob<T>>,
    worker_ended: &CancellationToken,
) {
    let size = jobs.len();
    let (jobs, (mut answers, releases)): (Vec<_>, (Vec<_>, Vec<_>)) = jobs
        .into_iter()
        .map(|job| ((job.input, job.context), (job.answer, job.release)))
        .unzip();
    let state = Arc::clone(&batches.state);
    let mut execution = Execution::begin(|| (batches.batching.call)(Batch::new(jobs), state));
    let outcomes = tokio::select! {
        biased;
        outcomes = execution.outcome() => outcomes,
        () = all_left(&mut answers) => Err(HandlerError::cancelled()),
    };
    let (outcomes, thread) = execution.end(outcomes);
    if let Some(thread) = thread {
        warn!(
            jobs = size,
            "All jobs of a batch have ended but its handler still runs; not replacing them."
        );
        let _stuck = permit.stuck(size);
        worker_ended.run_until_cancelled(thread).await;
    }
    drop(releases);
    match outcomes {
        Ok(outcomes) => {
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // Sending fails if the job has left, which is fine.
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

/// Returns the span of a batch: the span of the job if there is only one, or else a new span that follows from those of
/// all jobs.
fn span<T>(jobs: &[WaitingJob<T>]) -> Span {
    if let [only] = jobs {
        return only.context.span().clone();
    }
    let span = info_span!("batch", jobs = jobs.len());
    for job in jobs {
        span.follows_from(job.context.span());
    }
    span
}

async fn all_left(answers: &mut [oneshot::Sender<Outcome>]) {
    for answer in answers {
        answer.closed().await;
    }
}
