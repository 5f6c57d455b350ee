//! One job, from its arrival to its last word in the outbox.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use podwork_protocol::worker::Job;
use podwork_protocol::{RawValue, limits};
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span, debug, error, info, info_span, warn};

use crate::delivery::outbox::{Chunks, Closed, Final, Outbox};
use crate::error::HandlerError;
use crate::handler::Context;
use crate::handler::execution::{Work, ended_with_worker};
use crate::handler::{Call, Handler, Outcome};
use crate::jobs::in_flight::Reins;
use crate::run::batches::Batches;
use crate::telemetry::JobNotes;
use crate::telemetry::log::JOB_SPAN;

/// How jobs are run; the same for all jobs of a worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// The final of a stream repeats all its chunks.
    pub(crate) aggregate: bool,
    /// Every job ends with the worker's replacement.
    pub(crate) refresh: bool,
    /// How long a job may run.
    pub(crate) timeout: Option<Duration>,
    /// What a job may download.
    #[cfg(feature = "download")]
    pub(crate) download_limits: crate::config::DownloadLimits,
    /// Where its uploads go.
    #[cfg(feature = "upload")]
    pub(crate) uploads: Arc<crate::config::UploadSettings>,
    /// An output that is too large is uploaded, too.
    #[cfg(feature = "upload")]
    pub(crate) upload_large_results: bool,
}

/// How a job came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Its final is in the outbox.
    Finished {
        /// The worker is to be replaced.
        refresh: bool,
        /// Whether it failed in a way that may be the worker's own fault; `None` where another job of its batch says
        /// that.
        breakdown: Option<bool>,
    },
    /// It was told to stop: nothing of it is to be posted any more.
    Stopped,
}

/// The span that all lines of a job's log are in.
pub(crate) fn span(id: &str) -> Span {
    info_span!(JOB_SPAN, job_id = id)
}

/// Runs the handler on a job, and puts all it says into the outbox, the final last. Returns when the handler has ended
/// indeed, and its folder is removed: a blocking one may go on for a while after its job was failed or stopped. With
/// `batches` the job is handed over by them, together with others.
pub(crate) async fn run<H: Handler>(
    job: Job,
    state: Arc<H::State>,
    batches: Option<Arc<Batches<H::State, H::Item>>>,
    options: Options,
    outbox: Arc<Outbox>,
    reins: Reins,
    notes: JobNotes,
) -> Ended {
    let limit = limits::result_payload(&job.id);
    let chunks = Chunks::new(Arc::clone(&outbox), &job.id, options.aggregate);
    let Job {
        id, input, extra, ..
    } = job;
    let halt = reins.halt.clone();
    let span = notes.span().clone();
    let context = Context::new(id, extra, Arc::clone(&outbox), halt, span.clone());
    #[cfg(feature = "download")]
    let context = context.with_download_limits(options.download_limits);
    #[cfg(feature = "upload")]
    let context = context.with_uploads(options.uploads);
    let work = async {
        if reins.stop.is_cancelled() {
            info!("Stopped before it started.");
            return Ended::Stopped;
        }
        info!("Started.");
        notes.started();
        let call = Call::new(context.clone(), input, state, chunks);
        let (held, released) = oneshot::channel();
        let mut work = Work::begin(|| match batches {
            Some(batches) => batches.join(call, held),
            None => H::call(call),
        });
        let outcome = work.outcome();
        #[cfg(feature = "upload")]
        let outcome = made_small(outcome, options.upload_large_results, limit, &context);
        let outcome = tokio::select! {
            biased;
            outcome = outcome => outcome,
            failure = halted(&reins, options.timeout) => Err(failure),
        };
        let (outcome, thread) = work.end(outcome);
        let ended = if reins.stop.is_cancelled() {
            outbox.close();
            notes.ended(None);
            info!("Stopped.");
            Ended::Stopped
        } else {
            let outcome = outcome.and_then(|output| fitting(output, limit));
            match &outcome {
                Ok(output) => debug!("Output: {}", output.get()),
                Err(failure) => error!("Failed: {failure:?}"),
            }
            notes.ended(outcome.as_ref().err());
            let breakdown = match &outcome {
                Ok(_) => Some(false),
                Err(failure) => failure.is_breakdown(),
            };
            let refresh = options.refresh || context.wants_refresh();
            outbox.finish(Final { outcome, refresh });
            info!("Finished.");
            Ended::Finished { refresh, breakdown }
        };
        if let Some(thread) = thread {
            warn!("Its handler has yet to see that it is to end, and keeps its slot until then.");
            reins.over.run_until_cancelled(thread).await;
        }
        // Its batch may be with the handler still, for the others.
        reins.over.run_until_cancelled(released).await;
        #[cfg(feature = "upload")]
        context.tidied().await;
        #[cfg(feature = "folder")]
        context.remove_folder().await;
        ended
    };
    work.instrument(span).await
}

/// The output, unless the platform would refuse it for its size.
fn fitting(output: Box<RawValue>, limit: usize) -> Outcome {
    let size = output.get().len();
    if size > limit {
        return Err(HandlerError::too_large("output", size, limit));
    }
    Ok(output)
}

/// The outcome, with an output that is too large uploaded, if that is wished.
#[cfg(feature = "upload")]
async fn made_small(
    outcome: impl Future<Output = Outcome>,
    wished: bool,
    limit: usize,
    context: &Context,
) -> Outcome {
    let output = outcome.await?;
    let size = output.get().len();
    if !wished || size <= limit {
        return Ok(output);
    }
    let uploaded = crate::files::upload_output(context, output).await;
    uploaded.map_err(|error| HandlerError::too_large_still(size, limit, error.into()))
}

/// Waits until the handler is to end before its work is done, and tells it; why that is.
async fn halted(reins: &Reins, timeout: Option<Duration>) -> HandlerError {
    let failure = tokio::select! {
        () = reins.stop.cancelled() => Closed.into(),
        () = reins.over.cancelled() => ended_with_worker(),
        failure = timed_out(timeout) => failure,
    };
    reins.halt.cancel();
    failure
}

async fn timed_out(timeout: Option<Duration>) -> HandlerError {
    let Some(timeout) = timeout else {
        return pending().await;
    };
    tokio::time::sleep(timeout).await;
    HandlerError::new(
        "timeout",
        format!("the job did not end within {timeout:?}, the most that its worker allows"),
    )
}
