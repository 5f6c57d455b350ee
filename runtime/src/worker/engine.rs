//! The loops of a running worker, and its orderly end.

use std::sync::Arc;
use std::time::Duration;

use podwork_protocol::worker::Job;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{Instrument as _, Span, error, info, warn};

use crate::delivery::outbox::Outbox;
use crate::delivery::post::Delivery;
use crate::error::Error;
use crate::handler::Handler;
use crate::health::Health;
use crate::jobs::{JobDelivery, JobRun, Jobs};
use crate::platform_client::{Api, Failing};
use crate::run::batches::ReadyBatch;
use crate::run::job::{self, Runner, Verdict};
use crate::take::{self, Poller};
use crate::telemetry::{TakeTiming, Telemetry};

#[cfg(all(feature = "cache", unix))]
use super::cache_upkeep::Upkeep;
use super::start_up;
use super::{Settings, Shutdown};

/// How long the last posts may take once the grace period is over.
const LAST_POSTS: Duration = Duration::from_secs(10);
/// How long exporting the last traces may take when the grace period is over.
const LAST_TRACES: Duration = Duration::from_secs(1);

/// A worker that has its state.
pub(super) struct Engine<H: Handler> {
    pub(super) api: Api,
    pub(super) jobs: Arc<Jobs>,
    pub(super) health: Arc<Health>,
    pub(super) telemetry: Telemetry,
    pub(super) runner: Arc<Runner<H>>,
    pub(super) delivery: Arc<Delivery<Api>>,
    /// All that runs and delivers jobs.
    pub(super) tasks: TaskTracker,
    /// Where handlers run.
    pub(super) handlers: Handle,
    pub(super) shutdown: Shutdown,
    #[cfg(all(feature = "cache", unix))]
    pub(super) upkeep: Option<Upkeep>,
}

impl<H: Handler> Engine<H> {
    /// Serves jobs until the worker is to end.
    pub(super) async fn run(self, settings: Settings) -> Result<(), Error> {
        // However this ends, no handler goes on without its worker.
        let _end = self.jobs.end_all_on_drop();
        let _batching = self.start_batches();
        let grace = settings.grace;
        let work = async {
            let taken = self.take_jobs(settings).await;
            let drained = self.drain(grace).await;
            // A breaker that tripped has the worker drained, too.
            match taken.err().or_else(|| self.health.tripped()) {
                Some(failing) => Err(start_up::give_up(&self.api, failing).await),
                None => drained,
            }
        };
        tokio::select! {
            ended = work => ended,
            () = self.shutdown.abort.cancelled() => unfinished(self.jobs.in_flight()),
            never = take::listen(self.api.clone(), Arc::clone(&self.jobs)) => match never {},
        }
    }

    /// Takes jobs and starts them, until the worker drains, or its health check has failed for too long.
    async fn take_jobs(&self, settings: Settings) -> Result<(), Failing> {
        let Settings {
            mut concurrency,
            health: check,
            health_limit,
            ..
        } = settings;
        let check = check.as_ref();
        let ready = async || match check {
            Some(check) => {
                let state = Arc::clone(&self.runner.state);
                check
                    .pass(state, &self.handlers, &self.health, health_limit)
                    .await
            }
            None => Ok(()),
        };
        let poller = Poller {
            api: &self.api,
            jobs: &self.jobs,
            telemetry: &self.telemetry,
            drain: &self.shutdown.drain,
        };
        let start = |job, timing| self.start(job, timing);
        poller.run(&mut *concurrency, ready, start).await
    }

    /// Calls the handler with each batch that is ready, until the returned handle is dropped.
    fn start_batches(&self) -> Option<AbortOnDropHandle<()>> {
        let batches = Arc::clone(self.runner.batches.as_ref()?);
        let drain = self.shutdown.drain.clone();
        let (tasks, handlers) = (self.tasks.clone(), self.handlers.clone());
        let (telemetry, worker_ended) = (self.telemetry.clone(), self.jobs.worker_ended());
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let start = |batch: ReadyBatch<_>| {
                let batches = Arc::clone(&batches);
                let run = batch.run(batches, telemetry.clone(), worker_ended.clone());
                tasks.spawn_on(run, &handlers);
            };
            Arc::clone(&batches).release(&drain, start).await;
        })))
    }

    /// Starts to run and to deliver one job, in two tasks, neither of which waits for the other.
    fn start(&self, job: Job, timing: TakeTiming) {
        let Some((run, delivery)) = self.jobs.take(&job.id, &self.telemetry, timing) else {
            warn!(
                "job {} was handed out again while it was here, and runs once",
                job.id
            );
            return;
        };
        let outbox = Arc::new(Outbox::new(H::JOIN));
        let log = job::span(&job.id);
        // Not the job itself: its input may be large.
        let deliver = deliver(
            Arc::clone(&self.delivery),
            job.id.clone(),
            Arc::clone(&outbox),
            delivery,
        );
        self.tasks.spawn(deliver.instrument(log.clone()));
        let task = RunTask {
            runner: Arc::clone(&self.runner),
            outbox,
            log,
            drain: self.shutdown.drain.clone(),
            #[cfg(all(feature = "cache", unix))]
            ended: self.upkeep.as_ref().map(Upkeep::job_ended),
        };
        self.tasks.spawn_on(task.run(job, run), &self.handlers);
    }

    /// Lets the jobs in flight end, and the last traces go out, within the grace period.
    async fn drain(&self, grace: Duration) -> Result<(), Error> {
        let began = Instant::now();
        let drained = self.end_jobs(grace).await;
        let left = || grace.saturating_sub(began.elapsed());
        #[cfg(all(feature = "cache", unix))]
        if let (Ok(()), Some(upkeep)) = (&drained, &self.upkeep) {
            upkeep.end(left()).await;
        }
        self.telemetry.flush(left().max(LAST_TRACES)).await;
        drained
    }

    /// Waits for the jobs in flight, within the grace period; then ends them.
    async fn end_jobs(&self, grace: Duration) -> Result<(), Error> {
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_ok() {
            return Ok(());
        }
        let jobs = self.jobs.in_flight();
        if jobs > 0 {
            error!("{jobs} job(s) did not end within {grace:?} of grace and are failed");
        } else {
            warn!(
                "handlers of stopped jobs did not end within {grace:?} of grace and are left behind"
            );
        }
        self.jobs.end_all();
        if timeout(LAST_POSTS, self.tasks.wait()).await.is_err() {
            error!("{} job(s) could not be reported", self.jobs.in_flight());
        }
        unfinished(jobs)
    }
}

/// Delivers one job, until all of it is settled or the platform cancels it.
fn deliver(
    delivery: Arc<Delivery<Api>>,
    id: String,
    outbox: Arc<Outbox>,
    job: JobDelivery,
) -> impl Future<Output = ()> {
    // Boxed: it is moved many times before it rests, and holds a whole HTTP call.
    let telemetry = job.telemetry().clone();
    let posting = Box::pin(async move { delivery.run(&id, &outbox, &telemetry).await });
    async move {
        // Dropped without an outcome, the job counts as cancelled.
        if let Some(outcome) = job.cancelled().run_until_cancelled(posting).await {
            job.settled(outcome);
        }
    }
}

/// The task that runs one job.
struct RunTask<H: Handler> {
    runner: Arc<Runner<H>>,
    outbox: Arc<Outbox>,
    /// The span of the job's log lines.
    log: Span,
    drain: CancellationToken,
    /// Notified when the job has ended.
    #[cfg(all(feature = "cache", unix))]
    ended: Option<Arc<tokio::sync::Notify>>,
}

impl<H: Handler> RunTask<H> {
    async fn run(self, job: Job, slot: JobRun) {
        let verdict = self.runner.run(job, &slot, &self.outbox, self.log).await;
        match verdict {
            Verdict::GoOn => {}
            Verdict::Refresh => info!("This worker is to be replaced: taking no more jobs."),
            Verdict::Broken => error!("Too many jobs in a row broke down: taking no more jobs."),
        }
        if verdict != Verdict::GoOn {
            // Before the slot is free: nothing more is to be taken.
            self.drain.cancel();
        }
        slot.vacate(self.outbox.bytes());
        #[cfg(all(feature = "cache", unix))]
        if let Some(ended) = self.ended {
            ended.notify_one();
        }
    }
}

fn unfinished(jobs: usize) -> Result<(), Error> {
    if jobs == 0 {
        Ok(())
    } else {
        Err(Error::Unfinished { jobs })
    }
}
