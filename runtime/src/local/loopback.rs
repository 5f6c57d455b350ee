//! The ordinary worker, pulling from a platform in its own process.

use std::collections::HashMap;

use podwork_platform::Platform;
use tokio::runtime::Handle;

use crate::config::Config;
use crate::error::Error;
use crate::handler::Handler;
use crate::handler::state::StateSource;
use crate::worker::{Settings, Shutdown, work};

/// Id of the one worker.
const WORKER_ID: &str = "local";

/// Has the worker pull from `platform` until told to end.
pub(super) async fn work_for<H: Handler>(
    platform: &Platform,
    settings: Settings,
    source: impl StateSource<H::State>,
    handlers: Handle,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let env: HashMap<_, _> = platform.worker_env(WORKER_ID).into_iter().collect();
    let mut config = Config::read(|name| env.get(name).cloned(), H::STREAMS)?;
    let Some(remote) = config.remote.take() else {
        return Err(Error::MissingVariable {
            variable: podwork_protocol::env::GET_JOB,
            because: "the local platform did not say where to take jobs",
            expected: "a job-take URL",
        });
    };
    config.fitness = None;
    work::<H>(config, remote, settings, source, handlers, shutdown).await
}
