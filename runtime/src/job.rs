//! One job, from its arrival to its last word in the outbox.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use podwork_protocol::worker::Job;
use tracing::{Instrument as _, debug, error, info, info_span};

use crate::context::Context;
use crate::failure::HandlerError;
use crate::handler::{Call, Handler, Outcome, Reply};
use crate::in_flight::Reins;
use crate::logging::JOB_SPAN;
use crate::outbox::{Chunks, Final, Outbox};

/// How jobs are run; the same for all jobs of a worker.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// The final of a stream repeats all its chunks.
    pub(crate) aggregate: bool,
    /// Every job ends with the worker's replacement.
    pub(crate) refresh: bool,
}

/// Whether a job came to its own end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It did; its final is in the outbox. `refresh`: the worker is to be replaced.
    Finished { refresh: bool },
    /// It was told to stop: nothing of it is to be posted any more.
    Stopped,
}

/// Runs the handler on a job, and puts all it says into the outbox, the final last.
pub(crate) async fn run<H: Handler>(
    job: Arc<Job>,
    state: Arc<H::State>,
    options: Options,
    outbox: Arc<Outbox>,
    reins: Reins,
) -> Ended {
    let span = info_span!(JOB_SPAN, job_id = job.id.as_str());
    let context = Context::new(job, Arc::clone(&outbox), reins.halt.clone(), span.clone());
    let work = async {
        if reins.stop.is_cancelled() {
            info!("Stopped before it started.");
            return Ended::Stopped;
        }
        info!("Started.");
        let chunks = Chunks::new(Arc::clone(&outbox), options.aggregate);
        let call = Call::new(context.clone(), state, chunks);
        let outcome = call_handler::<H>(call, &reins).await;
        if reins.stop.is_cancelled() {
            outbox.close();
            info!("Stopped.");
            return Ended::Stopped;
        }
        let outcome = outcome.unwrap_or_else(|| {
            Err(HandlerError::new(
                "shutdown",
                "the worker had to end before the job did",
            ))
        });
        match &outcome {
            Ok(output) => debug!("Output: {}", output.get()),
            Err(failure) => error!("Failed: {failure:?}"),
        }
        let refresh = options.refresh || context.wants_refresh();
        outbox.finish(Final { outcome, refresh });
        info!("Finished.");
        Ended::Finished { refresh }
    };
    work.instrument(span.clone()).await
}

/// Runs one call to its end, or until its handler is to end (`None`).
async fn call_handler<H: Handler>(call: Call<H::State>, reins: &Reins) -> Option<Outcome> {
    let reply = match catch_unwind(AssertUnwindSafe(|| H::call(call))) {
        Ok(reply) => reply,
        Err(payload) => return Some(Err(HandlerError::panic(&*payload))),
    };
    match reply {
        Reply::Async(future) => run_async(future, reins).await,
        Reply::Blocking(work) => run_blocking(work, reins).await,
    }
}

async fn run_async(mut future: BoxFuture<'static, Outcome>, reins: &Reins) -> Option<Outcome> {
    let guarded = AssertUnwindSafe(&mut future).catch_unwind();
    let outcome = reins.halt.run_until_cancelled(guarded).await;
    // What the handler holds may panic in its destructor; that too is this job's affair alone.
    let dropped = guarded_drop(future);
    match (outcome?, dropped) {
        (Ok(outcome), Ok(())) => Some(outcome),
        (Ok(_), Err(failure)) => Some(Err(failure)),
        (Err(payload), _) => Some(Err(HandlerError::panic(&*payload))),
    }
}

async fn run_blocking(work: Box<dyn FnOnce() -> Outcome + Send>, reins: &Reins) -> Option<Outcome> {
    let span = tracing::Span::current();
    let mut thread = tokio::task::spawn_blocking(move || span.in_scope(|| guarded(work)));
    let ended = match reins.halt.run_until_cancelled(&mut thread).await {
        Some(ended) => ended,
        // A thread cannot be stopped from outside: a stopped job keeps its slot until the handler returns …
        None if reins.stop.is_cancelled() => thread.await,
        // … but when the worker has to end, it is left behind.
        None => return None,
    };
    // Panics are caught on the thread, so an error here means that the runtime is ending.
    ended.ok()
}

fn guarded(work: Box<dyn FnOnce() -> Outcome + Send>) -> Outcome {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(HandlerError::panic(&*payload)))
}

fn guarded_drop(future: impl Future) -> Result<(), HandlerError> {
    catch_unwind(AssertUnwindSafe(|| drop(future)))
        .map_err(|payload| HandlerError::panic(&*payload))
}
