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
use crate::health::WorkerHealth;
use crate::jobs::{JobRules, Jobs};
use crate::platform_client::Api;
use crate::run::bound::UnboundHandler;
use crate::run::job::Runner;
use crate::telemetry::About;

pub(crate) use engine::Engine;
pub(crate) use polling::poll;
pub(crate) use settings::WorkerSettings;
pub(crate) use shutdown::Shutdown;

/// Everything needed to start a worker, except the configuration from the environment.
pub(crate) struct Launch {
    pub(crate) settings: WorkerSettings,
    pub(crate) handler: UnboundHandler,
    /// The runtime for user code: set-up, checks and handlers.
    pub(crate) handlers: Handle,
    pub(crate) shutdown: Shutdown,
}

impl Launch {
    /// Sets the worker up. Returns `None` if it was shut down meanwhile.
    ///
    /// The worker's own loops run on the current runtime, separate from the user's code, which therefore cannot block
    /// them.
    pub(crate) async fn start(self, config: Config) -> Result<Option<Engine>, Error> {
        let Self {
            mut settings,
            handler,
            handlers,
            shutdown,
        } = self;
        let (name, kind) = (handler.name, handler.kind);
        let jobs = Jobs::new(JobRules {
            max_batch: handler.max_batch,
            max_failures: settings.max_failures,
        });
        let about = About {
            handler: name,
            batches: handler.max_batch.is_some(),
            worker_id: config.identity.worker_id.clone(),
        };
        let load = {
            let jobs = Arc::clone(&jobs);
            move || jobs.load()
        };
        let (telemetry, metrics) = std::mem::take(&mut settings.telemetry).start(about, load)?;
        let api = config.remote.clone().map(Api::new).transpose()?;
        let fitness = settings.fitness.take();
        let bound = handler.bind(Arc::clone(&jobs));
        #[cfg(all(feature = "cache", unix))]
        let bound = cache_upkeep::hydrated(settings.cache.clone(), bound);
        let starting = start_up::run(&config, api.as_ref(), fitness, bound, &handlers);
        let Some(handler) = shutdown.drain.run_until_cancelled(starting).await else {
            return Ok(None);
        };
        let handler = handler?;
        let health = WorkerHealth::new(Arc::clone(&jobs));
        let heartbeat = start_up::heartbeat(config.remote, &jobs, &health)?;
        info!(
            worker_id = %config.identity.worker_id,
            handler = %name,
            podwork = %crate::version::VERSION,
            "Worker is ready."
        );
        Ok(Some(Engine {
            kind,
            identity: config.identity,
            api,
            jobs,
            health,
            telemetry,
            runner: Arc::new(Runner {
                handler,
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
