//! The worker at work: take, run, deliver; then the orderly end.

use std::sync::Arc;
use std::time::Duration;

use podwork_protocol::env;
use podwork_protocol::worker::Job;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{Instrument as _, error, info, warn};

#[cfg(all(feature = "cache", unix))]
use crate::cache::VolumeCache;
use crate::config::{Config, Remote};
use crate::delivery::outbox::Outbox;
use crate::delivery::post::Delivery;
use crate::error::Error;
use crate::handler::Handler;
use crate::jobs::in_flight::{InFlight, Reins};
use crate::jobs::slots::Slots;
use crate::platform_client::{Api, Failing};
use crate::run::batches::{Batches, Limits, Together};
use crate::run::job::{self, Ended, Options};
use crate::telemetry::{About, Plan, Serving, Telemetry, Took};

use crate::handler::state::StateSource;
use crate::health::check::{Health, HealthCheck};
use crate::health::fitness::{self, FitnessCheck};
use crate::health::heartbeat::Heartbeat;
use crate::take::cancel;
use crate::take::concurrency::InBatches;
use crate::take::poll::{Concurrency, Source, pull};
#[cfg(all(feature = "cache", unix))]
use crate::worker::cache_upkeep::{Hydrating, Upkeep};
use crate::worker::shutdown::Shutdown;

/// How long the last posts may take once the grace period is over.
const LAST_POSTS: Duration = Duration::from_secs(10);
/// What the last traces have when the grace period is over.
const LEAST_FLUSH: Duration = Duration::from_secs(1);
/// Longest that a worker which cannot go on spends on saying so.
const UNHEALTHY_PING: Duration = Duration::from_secs(2);

/// What the builder was told, beside the state.
pub(crate) struct Settings {
    pub(crate) concurrency: Box<dyn Concurrency>,
    pub(crate) options: Options,
    pub(crate) batch: Limits,
    pub(crate) error_details: bool,
    pub(crate) grace: Duration,
    pub(crate) delivery_deadline: Duration,
    /// `None`: the machine is not checked at all.
    pub(crate) fitness: Option<Vec<FitnessCheck>>,
    pub(crate) health: Option<HealthCheck>,
    pub(crate) health_limit: Duration,
    pub(crate) breaker: Option<usize>,
    pub(crate) telemetry: Plan,
    #[cfg(all(feature = "cache", unix))]
    pub(crate) cache: Option<VolumeCache>,
}

#[cfg(feature = "local")]
impl Settings {
    /// This many jobs at once, whatever the builder was told.
    pub(crate) fn fix_concurrency(&mut self, jobs: usize) {
        self.concurrency = Box::new(crate::take::concurrency::Fixed(jobs));
    }
}

/// Sets up and works until told to end. All that is the user's runs on `handlers`; taking, delivering and listening go
/// on beside it on the present runtime, which so is never blocked.
pub(crate) async fn work<H: Handler>(
    config: Config,
    remote: Remote,
    settings: Settings,
    source: impl StateSource<H::State>,
    handlers: Handle,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let Settings {
        mut concurrency,
        options,
        batch,
        error_details,
        grace,
        delivery_deadline,
        fitness,
        health: check,
        health_limit,
        breaker,
        telemetry,
        #[cfg(all(feature = "cache", unix))]
        cache,
    } = settings;
    #[cfg(all(feature = "cache", unix))]
    let source = Hydrating(cache.clone(), source);
    let slots = Slots::new(1);
    let (telemetry, _serving) = begin_telling::<H>(telemetry, &config, &slots)?;
    let api = Api::new(remote.clone())?;
    let starting = start_up(&config, &api, fitness, source, &handlers);
    let Some(state) = shutdown.drain.run_until_cancelled(starting).await else {
        return Ok(());
    };
    let state = Arc::new(state?);
    let batches = H::BATCH.map(|batching| Batches::new(batching, batch, Arc::clone(&state)));
    if let Some(batches) = &batches {
        concurrency = Box::new(InBatches(concurrency, Arc::clone(batches)));
    }

    let in_flight = Arc::new(InFlight::default());
    let health = Health::new(breaker);
    // Beats until this function returns, so also while the last jobs end.
    let _heartbeat = beat(remote, &in_flight, &health)?;
    let worker_id = config.identity.worker_id.clone();
    let engine = Engine::<H> {
        state,
        batches,
        options,
        delivery: Arc::new(Delivery {
            api: api.clone(),
            identity: config.identity,
            error_details,
            streams: H::STREAMS,
            deadline: delivery_deadline,
        }),
        slots,
        telemetry: telemetry.clone(),
        in_flight: Arc::clone(&in_flight),
        health: Arc::clone(&health),
        tasks: TaskTracker::new(),
        handlers: handlers.clone(),
        over: CancellationToken::new(),
        shutdown: shutdown.clone(),
        #[cfg(all(feature = "cache", unix))]
        upkeep: cache.map(Upkeep::start),
    };
    // However this ends, no handler goes on without its worker.
    let _over = engine.over.clone().drop_guard();
    let _batching = engine.batch_jobs();
    info!(
        "Worker {worker_id} is ready: handler `{}`, podwork {}.",
        H::NAME,
        crate::version::VERSION
    );

    let work = async {
        let ready = || {
            let (check, state) = (check.clone(), Arc::clone(&engine.state));
            let (handlers, health) = (handlers.clone(), Arc::clone(&health));
            async move {
                match check {
                    Some(check) => check.pass(state, &handlers, &health, health_limit).await,
                    None => Ok(()),
                }
            }
        };
        let source = Source {
            api: &api,
            slots: &engine.slots,
            in_flight: &in_flight,
            telemetry: &telemetry,
        };
        let start = |job, took| engine.start(job, took);
        let pulled = pull(source, &mut *concurrency, &shutdown.drain, ready, start).await;
        let drained = engine.drain(grace).await;
        // A breaker that tripped has the worker drained, too.
        match pulled.err().or_else(|| health.tripped()) {
            Some(failing) => Err(give_up(&api, failing).await),
            None => drained,
        }
    };
    tokio::select! {
        ended = work => ended,
        () = shutdown.abort.cancelled() => unfinished(in_flight.len()),
        never = cancel::listen(api.clone(), Arc::clone(&in_flight)) => match never {},
    }
}

/// Begins to tell of the worker; metrics are served from here on.
fn begin_telling<H: Handler>(
    plan: Plan,
    config: &Config,
    slots: &Arc<Slots>,
) -> Result<(Telemetry, Serving), Error> {
    let about = About {
        handler: H::NAME,
        batches: H::BATCH.is_some(),
        worker_id: config.identity.worker_id.clone(),
    };
    let slots = Arc::clone(slots);
    plan.start(about, move || slots.load())
}

/// Starts the heartbeat, where there is one.
fn beat(
    remote: Remote,
    in_flight: &Arc<InFlight>,
    health: &Arc<Health>,
) -> Result<Option<Heartbeat>, Error> {
    if remote.ping.is_none() {
        info!("{} is not set: there is no heartbeat.", env::PING);
        return Ok(None);
    }
    let (in_flight, health) = (Arc::clone(in_flight), Arc::clone(health));
    Heartbeat::start(remote, in_flight, health).map(Some)
}

/// Checks the machine, and makes the state.
async fn start_up<S: Send + 'static>(
    config: &Config,
    api: &Api,
    fitness: Option<Vec<FitnessCheck>>,
    source: impl StateSource<S>,
    handlers: &Handle,
) -> Result<S, Error> {
    if let (Some(limits), Some(fitness)) = (config.fitness, fitness)
        && let Err((failing, failure)) = fitness::pass(limits, fitness, handlers).await
    {
        report_unhealthy(api, &failing).await;
        let check = failing.check;
        return Err(Error::Unfit { check, failure });
    }
    let made = AbortOnDropHandle::new(handlers.spawn(source.make())).await;
    match made.unwrap_or_else(|error| Err(error.into())) {
        Ok(state) => Ok(state),
        Err(failure) => {
            let failing = Failing {
                check: "setup".to_owned(),
                reason: failure.message().to_owned(),
            };
            report_unhealthy(api, &failing).await;
            Err(Error::Setup(failure))
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

/// Ends the worker for its health.
async fn give_up(api: &Api, failing: Failing) -> Error {
    report_unhealthy(api, &failing).await;
    let Failing { check, reason } = failing;
    Error::Unhealthy { check, reason }
}

async fn report_unhealthy(api: &Api, failing: &Failing) {
    if let Err(trouble) = api.ping(&[], Some(failing), UNHEALTHY_PING).await {
        warn!("the platform could not be told that this worker is unhealthy: {trouble:?}");
    }
}

struct Engine<H: Handler> {
    state: Arc<H::State>,
    /// Where jobs wait for others, if they are handed over together.
    batches: Option<Arc<Batches<H::State, H::Item>>>,
    options: Options,
    delivery: Arc<Delivery<Api>>,
    slots: Arc<Slots>,
    telemetry: Telemetry,
    in_flight: Arc<InFlight>,
    health: Arc<Health>,
    tasks: TaskTracker,
    /// Where handlers run.
    handlers: Handle,
    /// The worker's time is over.
    over: CancellationToken,
    shutdown: Shutdown,
    #[cfg(all(feature = "cache", unix))]
    upkeep: Option<Upkeep>,
}

impl<H: Handler> Engine<H> {
    /// Hands over jobs that wait for others, for as long as what this returns is there.
    fn batch_jobs(&self) -> Option<AbortOnDropHandle<()>> {
        let batches = Arc::clone(self.batches.as_ref()?);
        let drain = self.shutdown.drain.clone();
        let (tasks, handlers, over) =
            (self.tasks.clone(), self.handlers.clone(), self.over.clone());
        let (telemetry, slots) = (self.telemetry.clone(), Arc::clone(&self.slots));
        let start = move |batch: Together<_, _>| {
            let run = batch.run(over.clone(), telemetry.clone(), Arc::clone(&slots));
            tasks.spawn_on(run, &handlers);
        };
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            batches.release(&drain, start).await;
        })))
    }

    /// Runs and delivers one job, in tasks of its own.
    fn start(&self, job: Job, took: Took) {
        let reins = Reins::new(self.over.clone());
        let Some(held) = self.in_flight.hold(&job.id, reins.clone()) else {
            warn!(
                "job {} was handed out again while it was here, and runs once",
                job.id
            );
            return;
        };
        // Shared by the two tasks, and free when both have ended: neither waits for the other.
        let slot = Arc::new(self.slots.occupy());
        let outbox = Arc::new(Outbox::new(H::JOIN));
        let span = job::span(&job.id);
        let notes = self.telemetry.job(&job.id, took, span.clone());

        self.tasks.spawn({
            let (delivery, outbox) = (Arc::clone(&self.delivery), Arc::clone(&outbox));
            let (posts, to_deliver) = (notes.posts(), notes.posts());
            // Not the job itself: its input may be large.
            let (id, stop, slot) = (job.id.clone(), reins.stop.clone(), Arc::clone(&slot));
            // Boxed: it is moved many times before it rests, and holds a whole HTTP call.
            let deliver = Box::pin(async move { delivery.run(&id, &outbox, &to_deliver).await });
            async move {
                match stop.run_until_cancelled(deliver).await {
                    Some(true) => held.completed(),
                    Some(false) => {}
                    None => posts.stopped(),
                }
                drop(slot);
            }
            .instrument(span)
        });
        let (state, batches) = (Arc::clone(&self.state), self.batches.clone());
        let options = self.options.clone();
        let health = Arc::clone(&self.health);
        let drain = self.shutdown.drain.clone();
        #[cfg(all(feature = "cache", unix))]
        let job_ended = self.upkeep.as_ref().map(Upkeep::job_ended);
        let run = async move {
            let to = Arc::clone(&outbox);
            let notes = notes.running();
            let ended = job::run::<H>(job, state, batches, options, to, reins, notes).await;
            if let Ended::Finished { refresh, breakdown } = ended {
                if refresh {
                    info!("This worker is to be replaced: taking no more jobs.");
                }
                // Before the slot is free: nothing more is to be taken.
                let broken = breakdown.is_some_and(|breakdown| health.note(breakdown));
                if broken || refresh {
                    drain.cancel();
                }
            }
            slot.delivering(outbox.bytes());
            #[cfg(all(feature = "cache", unix))]
            if let Some(job_ended) = job_ended {
                job_ended.notify_one();
            }
        };
        self.tasks.spawn_on(run, &self.handlers);
    }

    /// Lets the jobs at hand end, and what was noted of them go out, within the grace period.
    async fn drain(&self, grace: Duration) -> Result<(), Error> {
        let began = Instant::now();
        let drained = self.end_jobs(grace).await;
        let left = || grace.saturating_sub(began.elapsed());
        #[cfg(all(feature = "cache", unix))]
        if let (Ok(()), Some(upkeep)) = (&drained, &self.upkeep) {
            upkeep.end(left()).await;
        }
        self.telemetry.flush(left().max(LEAST_FLUSH)).await;
        drained
    }

    /// Waits for the jobs at hand, within the grace period; then ends them.
    async fn end_jobs(&self, grace: Duration) -> Result<(), Error> {
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_ok() {
            return Ok(());
        }
        let jobs = self.in_flight.len();
        if jobs > 0 {
            error!("{jobs} job(s) did not end within {grace:?} of grace and are failed");
        } else {
            warn!(
                "handlers of stopped jobs did not end within {grace:?} of grace and are left behind"
            );
        }
        self.over.cancel();
        if tokio::time::timeout(LAST_POSTS, self.tasks.wait())
            .await
            .is_err()
        {
            error!("{} job(s) could not be reported", self.in_flight.len());
        }
        unfinished(jobs)
    }
}
