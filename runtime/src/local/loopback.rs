//! The ordinary worker, which polls a platform in its own process.

use std::collections::HashMap;

use podwork_platform::Platform;

use crate::config::Config;
use crate::error::Error;
use crate::handler::Handler;
use crate::handler::state::StateSource;
use crate::worker::{Launch, poll};

/// The id of the only worker.
const WORKER_ID: &str = "local";

/// Runs the worker on `platform` until it shuts down.
pub(super) async fn work_for<H: Handler, S: StateSource<H::State>>(
    platform: &Platform,
    launch: Launch<S>,
) -> Result<(), Error> {
    let env: HashMap<_, _> = platform.worker_env(WORKER_ID).into_iter().collect();
    let mut config = Config::read(|name| env.get(name).cloned(), H::KIND.streams())?;
    config.fitness = None;
    poll::<H, S>(launch, config).await
}
