//! A worker that takes its jobs from a platform.

use std::sync::Arc;

use podwork_protocol::env;
use podwork_protocol::worker::Job;
use tracing::warn;

use crate::config::Config;
use crate::delivery::outbox::Outbox;
use crate::delivery::post::Delivery;
use crate::error::Error;
use crate::handler::Handler;
use crate::handler::state::StateSource;
use crate::jobs::JobDelivery;
use crate::platform_client::Api;
use crate::take::{self, Fixed, Poller};

use super::Launch;

/// Sets a worker up, and serves the platform's jobs with it until it is to end.
pub(crate) async fn poll<H: Handler, S: StateSource<H::State>>(
    mut launch: Launch<S>,
    config: Config,
) -> Result<(), Error> {
    // Before the set-up, which may take long.
    if config.remote.is_none() {
        return Err(Error::MissingVariable {
            variable: env::GET_JOB,
            because: "jobs are taken from there",
            expected: "a job-take URL",
        });
    }
    let concurrency = launch.settings.concurrency.take();
    let deadline = launch.settings.delivery_deadline;
    let Some(engine) = launch.start::<H>(config).await? else {
        return Ok(());
    };
    let api = engine.api.as_ref();
    let api = api.expect("the worker has one where the environment names a platform");
    let delivery = Arc::new(Delivery {
        api: api.clone(),
        identity: engine.identity.clone(),
        error_details: engine.error_details,
        streams: H::KIND.streams(),
        deadline,
    });
    let poller = Poller {
        api,
        jobs: &engine.jobs,
        telemetry: &engine.telemetry,
        drain: &engine.shutdown.drain,
    };
    let start = |job: Job, timing| {
        // Not the job itself: its input may be large.
        let (id, delivery) = (job.id.clone(), Arc::clone(&delivery));
        let deliver = |outbox, job| deliver(delivery, id, outbox, job);
        if let Err(Job { id, .. }) = engine.start(job, timing, deliver) {
            warn!("job {id} was handed out again while it was here, and runs once");
        }
    };
    let mut concurrency = concurrency.unwrap_or_else(|| Box::new(Fixed(1)));
    let taking = poller.run(&mut *concurrency, || engine.healthy(), start);
    tokio::select! {
        ended = engine.run(taking) => ended,
        never = take::listen(api.clone(), Arc::clone(&engine.jobs)) => match never {},
    }
}

/// Delivers one job, until all of it is settled or the platform cancels it.
fn deliver(
    delivery: Arc<Delivery<Api>>,
    id: String,
    outbox: Arc<Outbox>,
    job: JobDelivery,
) -> impl Future<Output = ()> + Send {
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
