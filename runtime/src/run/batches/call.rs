//! One batch with its handler.

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

/// Jobs that go to the handler together.
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
    /// Calls the handler, and gives each job its outcome. Returns when the handler has returned, or `worker_ended`.
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
        // Since it was ready, some may have left. A panic when their inputs are dropped must not concern the others.
        let (left, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(WaitingJob::has_left);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(left)));
        if jobs.is_empty() {
            return;
        }
        let spans = jobs.iter().map(|job| job.context.span());
        telemetry.batch(jobs.len(), reason, spans);
        let span = span(&jobs);
        span.in_scope(|| info!("A batch of {} goes to the handler: {reason}.", jobs.len()));
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
            "All its jobs have ended, and its handler has yet to see that; no others are asked for in their place until then."
        );
        let _stuck = permit.stuck(size);
        worker_ended.run_until_cancelled(thread).await;
    }
    drop(releases);
    match outcomes {
        Ok(outcomes) => {
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // A job that has left needs none.
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

/// Returns the span of a batch: a lone job's own, else one that follows from the jobs' spans.
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
