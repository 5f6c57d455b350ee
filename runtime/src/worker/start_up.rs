//! The start-up of a worker: fitness checks, set-up and heartbeat, and the report of a failure to the platform.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use podwork_protocol::env;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::config::{Config, Remote};
use crate::error::{Error, HandlerError};
use crate::health::fitness::{self, FitnessCheck};
use crate::health::{Heartbeat, WorkerHealth};
use crate::jobs::Jobs;
use crate::platform_client::{Api, Failing};
use crate::run::bound::AnyHandler;

/// The time limit for the ping by which an unhealthy worker reports itself before it exits.
const UNHEALTHY_PING: Duration = Duration::from_secs(2);

/// Runs the fitness checks, then the set-up, which creates the handler's state.
pub(super) async fn run(
    config: &Config,
    api: Option<&Api>,
    fitness: Option<Vec<FitnessCheck>>,
    set_up: BoxFuture<'static, Result<Box<dyn AnyHandler>, HandlerError>>,
    handlers: &Handle,
) -> Result<Box<dyn AnyHandler>, Error> {
    if let (Some(limits), Some(fitness)) = (config.fitness, fitness)
        && let Err((failing, failure)) = fitness::pass(limits, fitness, handlers).await
    {
        report_unhealthy(api, &failing).await;
        let check = failing.check;
        return Err(Error::Unfit {
            check,
            failure: Box::new(failure),
        });
    }
    let made = AbortOnDropHandle::new(handlers.spawn(set_up)).await;
    match made.unwrap_or_else(|error| Err(error.into())) {
        Ok(handler) => Ok(handler),
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

/// Starts the heartbeat, if the environment names a ping URL.
pub(super) fn heartbeat(
    remote: Option<Remote>,
    jobs: &Arc<Jobs>,
    health: &Arc<WorkerHealth>,
) -> Result<Option<Heartbeat>, Error> {
    let Some(remote) = remote else {
        return Ok(None);
    };
    if remote.ping.is_none() {
        info!("{} is not set; sending no heartbeats.", env::PING);
        return Ok(None);
    }
    Heartbeat::start(remote, Arc::clone(jobs), Arc::clone(health)).map(Some)
}

/// Reports to the platform that the worker shuts down because it is unhealthy. Returns the error to exit with.
pub(super) async fn give_up(api: Option<&Api>, failing: Failing) -> Error {
    report_unhealthy(api, &failing).await;
    let Failing { check, reason } = failing;
    Error::Unhealthy { check, reason }
}

async fn report_unhealthy(api: Option<&Api>, failing: &Failing) {
    if let Some(api) = api
        && let Err(trouble) = api.ping(&[], Some(failing), UNHEALTHY_PING).await
    {
        warn!(error = ?trouble, "Failed to report to the platform that this worker is unhealthy.");
    }
}
