//! A worker that fetches its jobs from a platform.

use std::sync::Arc;
use std::time::Duration;

use podwork_protocol::env;
use podwork_protocol::worker::{InvalidJob, Job};

use crate::config::Config;
use crate::delivery::outbox::Outbox;
use crate::delivery::post::Delivery;
use crate::error::{Error, HandlerError};
use crate::jobs::JobDelivery;
use crate::platform_client::Api;
use crate::take::{self, Concurrency, DuplicateJob, Fixed, Poller};
use crate::threads::restarted;

use super::{Engine, Launch};

/// The pause before the polls of the stop channel start again after a panic.
const LISTEN_PAUSE: Duration = Duration::from_secs(1);

/// Sets a worker up, and runs jobs from the platform until it shuts down.
pub(crate) async fn poll(mut launch: Launch, config: Config) -> Result<(), Error> {
    // Checked before the set-up, which may take long.
    if config.remote.is_none() {
        return Err(Error::MissingVariable {
            variable: env::GET_JOB,
            because: "the worker fetches its jobs from there",
            expected: "a job-take URL",
        });
    }
    let concurrency = launch.settings.concurrency.take();
    let concurrency = concurrency.unwrap_or_else(|| Box::new(Fixed(1)));
    let deadline = launch.settings.delivery_deadline;
    match launch.start(config).await? {
        Some(engine) => Box::pin(work(engine, concurrency, deadline)).await,
        None => Ok(()),
    }
}

async fn work(
    engine: Engine,
    mut concurrency: Box<dyn Concurrency>,
    deadline: Duration,
) -> Result<(), Error> {
    let api = engine.api.as_ref();
    let api = api.expect("a worker with a platform URL has a client");
    let delivery = Arc::new(Delivery {
        api: api.clone(),
        identity: engine.identity.clone(),
        error_details: engine.error_details,
        deadline,
    });
    let poller = Poller {
        api,
        jobs: &engine.jobs,
        telemetry: &engine.telemetry,
        drain: &engine.shutdown.drain,
    };
    let start = |job: Result<Job, InvalidJob>, timing| {
        // Clones the id, not the job: its input may be large.
        let id = match &job {
            Ok(job) => job.id.clone(),
            Err(job) => job.id.clone(),
        };
        let delivery = Arc::clone(&delivery);
        let deliver = |outbox, job| deliver(delivery, id, outbox, job);
        match job {
            Ok(job) => engine
                .start(job, timing, deliver)
                .map_err(|job| DuplicateJob(job.id)),
            Err(InvalidJob { id, why, .. }) => {
                let failure = HandlerError::invalid_job(&why);
                let failed = engine.fail(&id, failure, timing, deliver);
                failed.then_some(()).ok_or(DuplicateJob(id))
            }
        }
    };
    let taking = poller.run(&mut *concurrency, || engine.healthy(), start);
    let listening = restarted("stop channel", LISTEN_PAUSE, || {
        take::listen(api.clone(), Arc::clone(&engine.jobs))
    });
    tokio::select! {
        ended = engine.run(taking) => ended,
        never = listening => match never {},
    }
}

/// Delivers the posts of one job, until its result is settled or the platform cancels it.
fn deliver(
    delivery: Arc<Delivery<Api>>,
    id: String,
    outbox: Arc<Outbox>,
    job: JobDelivery,
) -> impl Future<Output = ()> + Send {
    // Boxed, because the future is large (it holds an HTTP call) and would be moved many times on its way into a task.
    let telemetry = job.telemetry().clone();
    let posting = Box::pin(async move { delivery.run(&id, &outbox, &telemetry).await });
    async move {
        // A delivery that is dropped without an outcome counts as cancelled.
        if let Some(outcome) = job.cancelled().run_until_cancelled(posting).await {
            job.settled(outcome);
        }
    }
}
