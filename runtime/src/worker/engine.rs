//! The worker at work: take, run, deliver; then the orderly end.

use std::sync::Arc;
use std::time::Duration;

use podwork_protocol::env;
use podwork_protocol::worker::Job;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, error, info, info_span, warn};

use crate::api::Api;
use crate::config::{Config, Remote};
use crate::deliver::Delivery;
use crate::error::Error;
use crate::failure::HandlerError;
use crate::handler::Handler;
use crate::in_flight::{InFlight, Reins};
use crate::job::{self, Ended, Options};
use crate::logging::JOB_SPAN;
use crate::outbox::Outbox;
use crate::slots::Slots;

use super::heartbeat::Heartbeat;
use super::pull::{Concurrency, pull};
use super::setup::StateSource;
use super::shutdown::Shutdown;
use super::stop;

/// How long the last posts may take once the grace period is over.
const LAST_POSTS: Duration = Duration::from_secs(10);
/// Longest that a worker which cannot start spends on saying so.
const UNHEALTHY_PING: Duration = Duration::from_secs(2);

/// What the builder was told, beside the state.
pub(crate) struct Settings {
    pub(crate) concurrency: Box<dyn Concurrency>,
    pub(crate) options: Options,
    pub(crate) error_details: bool,
    pub(crate) grace: Duration,
}

#[cfg(feature = "local")]
impl Settings {
    /// This many jobs at once, whatever the builder was told.
    pub(crate) fn fix_concurrency(&mut self, jobs: usize) {
        self.concurrency = Box::new(super::concurrency::Fixed(jobs));
    }
}

/// Sets up and works until told to end.
pub(crate) async fn work<H: Handler>(
    config: Config,
    remote: Remote,
    settings: Settings,
    source: impl StateSource<H::State>,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let api = Api::new(remote.clone())?;
    let Some(made) = shutdown.drain.run_until_cancelled(source.make()).await else {
        return Ok(());
    };
    let state = match made {
        Ok(state) => Arc::new(state),
        Err(failure) => {
            report_unhealthy(&api, "setup", &failure).await;
            return Err(Error::Setup(failure));
        }
    };

    let in_flight = Arc::new(InFlight::default());
    // Beats until this function returns, so also while the last jobs end.
    let _heartbeat = if remote.ping.is_some() {
        Some(Heartbeat::start(remote, Arc::clone(&in_flight))?)
    } else {
        info!("{} is not set: there is no heartbeat.", env::PING);
        None
    };
    let Settings {
        mut concurrency,
        options,
        error_details,
        grace,
    } = settings;
    let worker_id = config.identity.worker_id.clone();
    let engine = Engine::<H> {
        state,
        options,
        delivery: Arc::new(Delivery {
            api: api.clone(),
            identity: config.identity,
            error_details,
            streams: H::STREAMS,
        }),
        slots: Slots::new(1),
        in_flight: Arc::clone(&in_flight),
        tasks: TaskTracker::new(),
        shutdown: shutdown.clone(),
    };
    info!(
        "Worker {worker_id} is ready: handler `{}`, podwork {}.",
        H::NAME,
        crate::VERSION
    );

    let work = async {
        let start = |job| engine.start(job);
        pull(
            &api,
            &engine.slots,
            &in_flight,
            &mut *concurrency,
            &shutdown.drain,
            start,
        )
        .await;
        engine.drain(grace).await
    };
    tokio::select! {
        ended = work => ended,
        () = shutdown.abort.cancelled() => unfinished(in_flight.len()),
        () = stop::listen(api.clone(), Arc::clone(&in_flight)) => Ok(()),
    }
}

fn unfinished(jobs: usize) -> Result<(), Error> {
    if jobs == 0 {
        Ok(())
    } else {
        Err(Error::Unfinished { jobs })
    }
}

async fn report_unhealthy(api: &Api, check: &str, failure: &HandlerError) {
    let ping = api.ping_unhealthy(check, failure.message(), UNHEALTHY_PING);
    if let Err(trouble) = ping.await {
        warn!("the platform could not be told that this worker is unhealthy: {trouble:?}");
    }
}

struct Engine<H: Handler> {
    state: Arc<H::State>,
    options: Options,
    delivery: Arc<Delivery>,
    slots: Arc<Slots>,
    in_flight: Arc<InFlight>,
    tasks: TaskTracker,
    shutdown: Shutdown,
}

impl<H: Handler> Engine<H> {
    /// Runs and delivers one job, in tasks of its own.
    fn start(&self, job: Job) {
        let job = Arc::new(job);
        let reins = Reins::new();
        let Some(held) = self.in_flight.hold(&job.id, reins.clone()) else {
            warn!(
                "job {} was handed out again while it is here; it goes on once",
                job.id
            );
            return;
        };
        let mut slot = self.slots.occupy();
        let outbox = Arc::new(Outbox::default());

        let delivering = self.tasks.spawn({
            let (delivery, outbox) = (Arc::clone(&self.delivery), Arc::clone(&outbox));
            let (job, stop) = (Arc::clone(&job), reins.stop.clone());
            let span = info_span!(JOB_SPAN, job_id = job.id.as_str());
            let deliver = async move { delivery.run(&job.id, &outbox).await };
            async move { stop.run_until_cancelled(deliver).await }.instrument(span)
        });
        let (state, options) = (Arc::clone(&self.state), self.options);
        let drain = self.shutdown.drain.clone();
        self.tasks.spawn(async move {
            let ended = job::run::<H>(job, state, options, outbox, reins).await;
            if ended == (Ended::Finished { refresh: true }) {
                // Before the slot is free: nothing more is to be taken.
                info!("This worker is to be replaced: taking no more jobs.");
                drain.cancel();
            }
            slot.delivering();
            if let Err(failure) = delivering.await {
                error!("delivery failed: {failure}");
            }
            drop(held);
        });
    }

    /// Lets the jobs at hand end, within the grace period; then ends them.
    async fn drain(&self, grace: Duration) -> Result<(), Error> {
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_ok() {
            return Ok(());
        }
        let jobs = self.in_flight.len();
        error!(
            "{jobs} job(s) did not end within {} s of grace and are failed",
            grace.as_secs()
        );
        self.in_flight.halt_all();
        if tokio::time::timeout(LAST_POSTS, self.tasks.wait())
            .await
            .is_err()
        {
            error!("{} job(s) could not be reported", self.in_flight.len());
        }
        unfinished(jobs)
    }
}
