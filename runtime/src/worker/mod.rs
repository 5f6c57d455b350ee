//! The running worker: start-up, the concurrent loops, and the orderly shutdown.

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
use crate::run::bound::BoundHandler;
use crate::run::job::Runner;
use crate::telemetry::About;

pub(crate) use engine::Engine;
pub(crate) use polling::poll;
pub(crate) use settings::WorkerSettings;
pub(crate) use shutdown::Shutdown;

/// Everything needed to start a worker, except the configuration from the environment.
pub(crate) struct Launch<S> {
    pub(crate) settings: WorkerSettings,
    /// The source of the handler's state.
    pub(crate) source: S,
    /// The runtime for user code: set-up, checks and handlers.
    pub(crate) handlers: Handle,
    pub(crate) shutdown: Shutdown,
}

impl<S> Launch<S> {
    /// Sets the worker up. Returns `None` if it was shut down meanwhile.
    ///
    /// The worker's own loops run on the current runtime, separate from the user's code, which therefore cannot block
    /// them.
    pub(crate) async fn start<H: Handler>(self, config: Config) -> Result<Option<Engine>, Error>
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
            worker_id = %config.identity.worker_id,
            handler = %H::NAME,
            podwork = %crate::version::VERSION,
            "Worker is ready."
        );
        Ok(Some(Engine {
            kind: H::KIND,
            identity: config.identity,
            api,
            jobs,
            health,
            telemetry,
            runner: Arc::new(Runner {
                handler: Box::new(BoundHandler::<H> { state, batches }),
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
