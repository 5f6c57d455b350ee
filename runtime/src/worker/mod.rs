//! The running worker: start-up, the loops side by side, and the orderly end.

#[cfg(all(feature = "cache", unix))]
mod cache_upkeep;
mod engine;
mod polling;
mod settings;
mod shutdown;
mod start_up;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::config::Config;
use crate::error::Error;
use crate::handler::Handler;
use crate::handler::state::StateSource;
use crate::health::WorkerHealth;
use crate::jobs::{JobRules, Jobs};
use crate::platform_client::Api;
use crate::run::batches::Batches;
use crate::run::job::Runner;
use crate::telemetry::About;

pub(crate) use engine::Engine;
pub(crate) use polling::poll;
pub(crate) use settings::WorkerSettings;
pub(crate) use shutdown::Shutdown;

/// All that a worker is started with, beside the environment.
pub(crate) struct Launch<S> {
    pub(crate) settings: WorkerSettings,
    /// Where the handler's state comes from.
    pub(crate) source: S,
    /// The runtime for all that is the user's: set-up, checks and handlers.
    pub(crate) handlers: Handle,
    pub(crate) shutdown: Shutdown,
}

impl<S> Launch<S> {
    /// Sets the worker up. `None`: it was told to end meanwhile.
    ///
    /// The worker's own loops go on on the present runtime, beside the user's code, which so never blocks them.
    pub(crate) async fn start<H: Handler>(self, config: Config) -> Result<Option<Engine<H>>, Error>
    where
        S: StateSource<H::State>,
    {
        let Self {
            mut settings,
            source,
            handlers,
            shutdown,
        } = self;
        let batching = H::BATCH.map(|batching| settings.batch.applied_to(batching));
        let jobs = Jobs::new(JobRules {
            max_batch: batching.as_ref().map(|batching| batching.max_batch),
            max_failures: settings.max_failures,
        });
        let about = About {
            handler: H::NAME,
            batches: batching.is_some(),
            worker_id: config.identity.worker_id.clone(),
        };
        let load = {
            let jobs = Arc::clone(&jobs);
            move || jobs.load()
        };
        let (telemetry, metrics) = std::mem::take(&mut settings.telemetry).start(about, load)?;
        let api = config.remote.clone().map(Api::new).transpose()?;
        #[cfg(all(feature = "cache", unix))]
        let source = cache_upkeep::Hydrating(settings.cache.clone(), source);
        let fitness = settings.fitness.take();
        let starting = start_up::run(&config, api.as_ref(), fitness, source, &handlers);
        let Some(state) = shutdown.drain.run_until_cancelled(starting).await else {
            return Ok(None);
        };
        let state = Arc::new(state?);
        let health = WorkerHealth::new(Arc::clone(&jobs));
        let heartbeat = start_up::heartbeat(config.remote, &jobs, &health)?;
        let batches =
            batching.map(|batching| Batches::new(batching, Arc::clone(&jobs), Arc::clone(&state)));
        info!(
            "Worker {} is ready: handler `{}`, podwork {}.",
            config.identity.worker_id,
            H::NAME,
            crate::version::VERSION
        );
        Ok(Some(Engine {
            identity: config.identity,
            api,
            jobs,
            health,
            telemetry,
            runner: Arc::new(Runner {
                state,
                batches,
                settings: std::mem::take(&mut settings.job),
            }),
            tasks: TaskTracker::new(),
            handlers,
            shutdown,
            #[cfg(all(feature = "cache", unix))]
            upkeep: settings.cache.take().map(cache_upkeep::Upkeep::start),
            grace: settings.grace,
            health_check: settings.health.map(|check| (check, settings.health_limit)),
            error_details: settings.error_details,
            _heartbeat: heartbeat,
            _metrics: metrics,
        }))
    }
}
