//! The loops of a running worker, and its orderly shutdown.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use podwork_protocol::worker::Job;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{Instrument as _, Span, error, info, warn};

use crate::delivery::outbox::Outbox;
use crate::error::handler_error::Identity;
use crate::error::{Error, HandlerError};
use crate::handler::HandlerKind;
use crate::health::{HealthCheck, Heartbeat, WorkerHealth};
use crate::jobs::{JobDelivery, JobRun, Jobs};
use crate::platform_client::{Api, Failing};
use crate::run::bound::BatchTasks;
use crate::run::job::{self, Consequence, Runner};
use crate::telemetry::{TakeTiming, Telemetry, TelemetryGuard};
use crate::threads::guarded;

use super::Shutdown;
#[cfg(all(feature = "cache", unix))]
use super::cache_upkeep::Upkeep;
use super::start_up;

/// The time limit for the last posts once the grace period is over.
const LAST_POSTS: Duration = Duration::from_secs(10);
/// The time limit for handlers that have no job any longer, once the grace period is over.
const LAST_CLEANUP: Duration = Duration::from_secs(1);
/// The time that exporting the last traces may take even if the grace period is over.
const LAST_TRACES: Duration = Duration::from_secs(1);

/// A worker after its set-up.
pub(crate) struct Engine {
    pub(super) kind: HandlerKind,
    pub(crate) identity: Identity,
    /// The client of the platform. `None` if the worker has no platform.
    pub(super) api: Option<Api>,
    pub(crate) jobs: Arc<Jobs>,
    pub(super) health: Arc<WorkerHealth>,
    pub(crate) telemetry: Telemetry,
    pub(super) runner: Arc<Runner>,
    /// The tasks that run and deliver jobs.
    pub(super) tasks: TaskTracker,
    /// The runtime for handlers.
    pub(super) handlers: Handle,
    pub(crate) shutdown: Shutdown,
    #[cfg(all(feature = "cache", unix))]
    pub(super) upkeep: Option<Upkeep>,
    /// The grace period: the time limit for the jobs in flight at shutdown.
    pub(super) grace: Duration,
    /// The user's health check, and the time that it may keep failing.
    pub(super) health_check: Option<(HealthCheck, Duration)>,
    /// Error results contain the host name and the causes.
    pub(crate) error_details: bool,
    /// The heartbeat, which also runs during the drain.
    pub(super) _heartbeat: Option<Heartbeat>,
    pub(super) _metrics: TelemetryGuard,
}

impl Engine {
    /// Runs `intake`, which starts jobs until the worker drains or becomes unhealthy, then waits for the jobs in
    /// flight.
    ///
    /// # Errors
    /// Returns an error if the worker became unhealthy, or jobs are left unfinished.
    pub(crate) async fn run(
        &self,
        intake: impl Future<Output = Result<(), Failing>>,
    ) -> Result<(), Error> {
        // Ends all handlers, however this future ends.
        let _end = self.jobs.end_all_on_drop();
        let mut batching = pin!(self.batching());
        let work = async {
            let taken = tokio::select! {
                taken = guarded(intake) => taken,
                why = &mut batching => {
                    // The jobs that wait for a batch would wait forever.
                    self.jobs.end_all();
                    Err(why)
                }
            };
            if let Err(why) = &taken {
                error!(error = %why, "The worker panicked; fetching no more jobs.");
                self.shutdown.drain.cancel();
            }
            let drained = self.drain().await;
            // A tripped breaker also drains the worker.
            match taken
                .map_err(Error::Panicked)?
                .err()
                .or_else(|| self.health.tripped())
            {
                Some(failing) => Err(start_up::give_up(self.api.as_ref(), failing).await),
                None => drained,
            }
        };
        tokio::select! {
            ended = work => ended,
            () = self.shutdown.abort.cancelled() => unfinished(self.jobs.in_flight()),
        }
    }

    /// Waits until the health check passes.
    ///
    /// # Errors
    /// Returns an error once the check has failed for too long.
    pub(crate) async fn healthy(&self) -> Result<(), Failing> {
        let Some((check, limit)) = &self.health_check else {
            return Ok(());
        };
        let state = self.runner.handler.state();
        check
            .pass(state, &self.handlers, &self.health, *limit)
            .await
    }

    /// Starts the task that calls the handler with each ready batch. The task ends when the returned future is dropped.
    /// The future completes only if the task panics, and returns the message.
    fn batching(&self) -> impl Future<Output = String> + use<> {
        let batch_loop = self.runner.handler.batch_loop(BatchTasks {
            tracker: self.tasks.clone(),
            handlers: self.handlers.clone(),
            telemetry: self.telemetry.clone(),
            drain: self.shutdown.drain.clone(),
            worker_ended: self.jobs.worker_ended(),
        });
        let task = batch_loop.map(|task| AbortOnDropHandle::new(tokio::spawn(guarded(task))));
        async {
            match task {
                None => pending().await,
                Some(task) => match task.await {
                    Ok(Err(why)) => why,
                    // The loop never ends, and is not aborted before this future is dropped.
                    Ok(Ok(())) | Err(_) => pending().await,
                },
            }
        }
    }

    /// Starts two tasks for a job: one runs it, the other delivers the contents of its outbox. Neither waits for the
    /// other.
    ///
    /// # Errors
    /// Returns the job if [`Jobs::take`] rejects it as a duplicate.
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        &self,
        job: Job,
        timing: TakeTiming,
        deliver: impl FnOnce(Arc<Outbox>, JobDelivery) -> F,
    ) -> Result<(), Job> {
        let Some((run, outbox, log)) = self.admit(&job.id, timing, deliver) else {
            return Err(job);
        };
        let task = RunTask {
            runner: Arc::clone(&self.runner),
            outbox,
            log,
            drain: self.shutdown.drain.clone(),
            #[cfg(all(feature = "cache", unix))]
            ended: self.upkeep.as_ref().map(Upkeep::job_ended),
        };
        self.tasks.spawn_on(task.run(job, run), &self.handlers);
        Ok(())
    }

    /// Fails a job that cannot run: it is in flight until the error is delivered. Returns `false` if [`Jobs::take`]
    /// rejects it as a duplicate.
    pub(crate) fn fail<F: Future<Output = ()> + Send + 'static>(
        &self,
        id: &str,
        failure: HandlerError,
        timing: TakeTiming,
        deliver: impl FnOnce(Arc<Outbox>, JobDelivery) -> F,
    ) -> bool {
        let Some((run, outbox, log)) = self.admit(id, timing, deliver) else {
            return false;
        };
        log.in_scope(|| job::fail(failure, &run, &outbox));
        run.vacate(outbox.bytes());
        true
    }

    /// Adds a job to the jobs in flight, and starts the task that delivers the contents of its outbox. Returns `None` if
    /// [`Jobs::take`] rejects it.
    fn admit<F: Future<Output = ()> + Send + 'static>(
        &self,
        id: &str,
        timing: TakeTiming,
        deliver: impl FnOnce(Arc<Outbox>, JobDelivery) -> F,
    ) -> Option<(JobRun, Arc<Outbox>, Span)> {
        let (run, delivery) = self.jobs.take(id, &self.telemetry, timing)?;
        let outbox = Arc::new(Outbox::new(self.kind.joins(), self.kind.always_streams()));
        let log = job::span(id);
        let delivering = deliver(Arc::clone(&outbox), delivery);
        self.tasks.spawn(delivering.instrument(log.clone()));
        Some((run, outbox, log))
    }

    /// Waits for the jobs in flight, the last cache sync and the export of the last traces, within the grace period.
    async fn drain(&self) -> Result<(), Error> {
        let grace = self.grace;
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

    /// Waits for the jobs in flight within the grace period, then ends the rest.
    async fn end_jobs(&self, grace: Duration) -> Result<(), Error> {
        self.tasks.close();
        if timeout(grace, self.tasks.wait()).await.is_ok() {
            return Ok(());
        }
        let jobs = self.jobs.in_flight();
        if jobs > 0 {
            error!(
                jobs,
                grace_ms = grace.as_millis(),
                "Jobs did not end within the grace period; failing them."
            );
        } else {
            warn!(
                grace_ms = grace.as_millis(),
                "Handlers of cancelled jobs outlived the grace period; abandoning them."
            );
        }
        self.jobs.end_all();
        let limit = if jobs > 0 { LAST_POSTS } else { LAST_CLEANUP };
        if timeout(limit, self.tasks.wait()).await.is_err() {
            match self.jobs.in_flight() {
                // Reported above.
                0 if jobs == 0 => {}
                0 => {
                    warn!("All results are delivered; abandoning handlers that are still running.");
                }
                left => error!(
                    jobs = left,
                    "Failed to deliver the last results before the worker exits."
                ),
            }
        }
        unfinished(jobs)
    }
}

/// The task that runs one job.
struct RunTask {
    runner: Arc<Runner>,
    outbox: Arc<Outbox>,
    /// The span of the job's log lines.
    log: Span,
    drain: CancellationToken,
    /// The notifier to call when the job has ended.
    #[cfg(all(feature = "cache", unix))]
    ended: Option<Arc<tokio::sync::Notify>>,
}

impl RunTask {
    async fn run(self, job: Job, slot: JobRun) {
        let consequence = self.runner.run(job, &slot, &self.outbox, self.log).await;
        if consequence != Consequence::GoOn {
            // Drains before the slot is free, so that no other job is fetched.
            self.drain.cancel();
        }
        match consequence {
            Consequence::GoOn => {}
            Consequence::Refresh => info!("Worker will be replaced; fetching no more jobs."),
            Consequence::Broken => {
                error!(
                    "Consecutive jobs panicked, or ran out of memory or threads; fetching no more jobs."
                );
            }
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
