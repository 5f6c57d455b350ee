//! The run of one job, from its arrival to its result in the outbox.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use podwork_protocol::worker::Job;
use podwork_protocol::{RawValue, limits};
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span, debug, error, info, info_span, warn};

use crate::delivery::outbox::{Chunks, Final, Outbox};
use crate::error::HandlerError;
use crate::handler::execution::Execution;
use crate::handler::{Context, Outcome};
use crate::jobs::{CancelTokens, JobRun};
use crate::run::bound::AnyHandler;
use crate::telemetry::log::JOB_SPAN;
use crate::threads::{BlockingTask, guarded};

/// The settings that all jobs of a worker share.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobSettings {
    /// The final result of a stream is the list of all its chunks.
    pub(crate) aggregate: bool,
    /// The worker is replaced after every job.
    pub(crate) refresh: bool,
    /// The time limit of a job. `None`: only the platform's limit applies.
    pub(crate) timeout: Option<Duration>,
    #[cfg(feature = "download")]
    pub(crate) download_limits: crate::config::DownloadLimits,
    #[cfg(feature = "upload")]
    pub(crate) uploads: Arc<crate::config::UploadSettings>,
    /// Outputs over the platform's limit are uploaded.
    #[cfg(feature = "upload")]
    pub(crate) upload_large_results: bool,
}

/// The consequence of a job's end for its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consequence {
    GoOn,
    /// The worker must be replaced.
    Refresh,
    /// Too many consecutive jobs broke down.
    Broken,
}

/// Returns the span of a job's log lines.
pub(crate) fn span(id: &str) -> Span {
    info_span!(JOB_SPAN, job_id = id)
}

/// Runs jobs with one handler.
pub(crate) struct Runner {
    pub(crate) handler: Box<dyn AnyHandler>,
    pub(crate) settings: JobSettings,
}

impl Runner {
    /// Runs one job, and puts everything that it produces into the outbox, the result last. Returns when the handler
    /// has returned and the job's folder is removed: a blocking handler may keep running after its job has failed or
    /// was cancelled.
    ///
    /// A panic anywhere in this method fails the job, so that every job has a result. `log` is the span of the job's
    /// log lines.
    pub(crate) async fn run(
        &self,
        job: Job,
        slot: &JobRun,
        outbox: &Arc<Outbox>,
        log: Span,
    ) -> Consequence {
        let executing = async {
            let span = slot.telemetry().run_span(log.clone());
            let executed = self.execute(job, slot, outbox, &span);
            executed.instrument(span.clone()).await
        };
        let (consequence, rest) = match guarded(executing).await {
            Ok(executed) => executed,
            Err(why) => (self.panicked(why, slot, outbox, &log).await, None),
        };
        if let Some(rest) = rest
            && let Err(why) = guarded(rest.end(slot.tokens()).instrument(log.clone())).await
        {
            log.in_scope(|| error!(error = %why, "Cleaning up after the job panicked."));
        }
        consequence
    }

    /// Fails a job during which the runtime or a `tracing` subscriber panicked, even if one panics again.
    async fn panicked(
        &self,
        why: String,
        slot: &JobRun,
        outbox: &Outbox,
        log: &Span,
    ) -> Consequence {
        let failure = HandlerError::panicked(why);
        let (again, refresh) = (failure.clone(), self.settings.refresh);
        let concluding = async { log.in_scope(|| conclude(Err(failure), slot, outbox, refresh)) };
        guarded(concluding).await.unwrap_or_else(|_| {
            outbox.finish(Final {
                outcome: Err(again),
                refresh,
            });
            Consequence::GoOn
        })
    }

    /// Runs the handler, and concludes the job. Also returns what is still left of the job's run, if the handler was
    /// called.
    async fn execute(
        &self,
        job: Job,
        slot: &JobRun,
        outbox: &Arc<Outbox>,
        span: &Span,
    ) -> (Consequence, Option<RunRest>) {
        let limit = limits::result_payload(&job.id);
        let chunks = Chunks::new(Arc::clone(outbox), &job.id, self.settings.aggregate);
        let Job {
            id, input, extra, ..
        } = job;
        let tokens = slot.tokens();
        let context = Context::new(
            id,
            extra,
            Arc::clone(outbox),
            tokens.handler.clone(),
            span.clone(),
        );
        #[cfg(feature = "download")]
        let context = context.with_download_limits(self.settings.download_limits);
        #[cfg(feature = "upload")]
        let context = context.with_uploads(Arc::clone(&self.settings.uploads));
        if tokens.by_platform.is_cancelled() {
            info!("Cancelled before it started.");
            return (Consequence::GoOn, None);
        }
        info!("Started.");
        slot.started();
        let (release, released) = oneshot::channel();
        let call = context.clone();
        let mut execution = Execution::begin(|| self.handler.begin(call, input, chunks, release));
        let outcome = execution.outcome();
        #[cfg(feature = "upload")]
        let outcome = uploaded_if_large(outcome, &self.settings, limit, &context);
        let outcome = tokio::select! {
            biased;
            outcome = outcome => outcome,
            failure = ended_early(tokens, self.settings.timeout) => Err(failure),
        };
        let (outcome, thread) = execution.end(outcome);
        let outcome = outcome.and_then(|output| within(limit, output));
        let refresh = self.settings.refresh || context.wants_refresh();
        let consequence = conclude(outcome, slot, outbox, refresh);
        let rest = RunRest {
            thread,
            released,
            context,
        };
        (consequence, Some(rest))
    }
}

/// The rest of the run of a job that has a result.
struct RunRest {
    /// The thread of a handler that is still running.
    thread: Option<BlockingTask<Outcome>>,
    /// Completes when no call of the handler holds the job any longer.
    released: oneshot::Receiver<Infallible>,
    context: Context,
}

impl RunRest {
    /// Waits until the handler has returned, and removes the job's folder.
    async fn end(self, tokens: &CancelTokens) {
        if let Some(thread) = self.thread {
            warn!("Handler is still running after its job has ended; its slot stays occupied.");
            tokens.by_worker.run_until_cancelled(thread).await;
        }
        // The handler may still process the batch for the other jobs.
        tokens.by_worker.run_until_cancelled(self.released).await;
        #[cfg(feature = "upload")]
        self.context.tidied().await;
        self.context.remove_folder().await;
    }
}

/// Fails a job that never runs.
pub(crate) fn fail(failure: HandlerError, slot: &JobRun, outbox: &Outbox) {
    // The handler was not called, so there is no reason to replace the worker.
    let _ = conclude(Err(failure), slot, outbox, false);
}

/// Puts the result into the outbox, unless the job was cancelled.
fn conclude(outcome: Outcome, slot: &JobRun, outbox: &Outbox, refresh: bool) -> Consequence {
    if slot.tokens().by_platform.is_cancelled() {
        outbox.close();
        slot.cancelled();
        info!("Cancelled.");
        return Consequence::GoOn;
    }
    match &outcome {
        Ok(output) => debug!(output = %output.get(), "Output is ready."),
        Err(failure) => error!(error = ?failure, "Failed."),
    }
    let tripped = slot.finished(outcome.as_ref().err());
    info!("Finished.");
    // Last, so that a job that panics in this function has no result yet.
    outbox.finish(Final { outcome, refresh });
    if tripped {
        Consequence::Broken
    } else if refresh {
        Consequence::Refresh
    } else {
        Consequence::GoOn
    }
}

/// Returns the output, if the platform accepts its size.
///
/// # Errors
/// Returns an error if the output is larger than `limit` bytes.
fn within(limit: usize, output: Box<RawValue>) -> Outcome {
    let size = output.get().len();
    if size > limit {
        return Err(HandlerError::too_large("output", size, limit));
    }
    Ok(output)
}

/// Uploads an output over the limit, if the settings enable that.
#[cfg(feature = "upload")]
async fn uploaded_if_large(
    outcome: impl Future<Output = Outcome>,
    settings: &JobSettings,
    limit: usize,
    context: &Context,
) -> Outcome {
    let output = outcome.await?;
    let size = output.get().len();
    if !settings.upload_large_results || size <= limit {
        return Ok(output);
    }
    let uploaded = crate::files::upload_output(context, output).await;
    uploaded.map_err(|error| HandlerError::too_large_still(size, limit, error.into()))
}

/// Waits until the job must end before its handler returns, then cancels the handler. Returns the reason.
async fn ended_early(tokens: &CancelTokens, timeout: Option<Duration>) -> HandlerError {
    let failure = tokio::select! {
        () = tokens.by_platform.cancelled() => HandlerError::cancelled(),
        () = tokens.by_worker.cancelled() => HandlerError::interrupted(),
        failure = timed_out(timeout) => failure,
    };
    tokens.handler.cancel();
    failure
}

async fn timed_out(timeout: Option<Duration>) -> HandlerError {
    let Some(timeout) = timeout else {
        return pending().await;
    };
    tokio::time::sleep(timeout).await;
    HandlerError::timed_out(timeout)
}
