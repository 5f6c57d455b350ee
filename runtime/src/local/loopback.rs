//! The ordinary worker, which polls a platform in its own process.

use std::collections::HashMap;

use futures::FutureExt as _;
use podwork_platform::Platform;

use crate::config::Config;
use crate::error::Error;
use crate::worker::{Launch, poll};

/// The id of the only worker.
const WORKER_ID: &str = "local";

/// Runs the worker on `platform` until it shuts down.
pub(super) async fn work_for(platform: &Platform, launch: Launch) -> Result<(), Error> {
    let env: HashMap<_, _> = platform.worker_env(WORKER_ID).into_iter().collect();
    let mut config = Config::read(|name| env.get(name).cloned(), launch.handler.kind.streams())?;
    config.fitness = None;
    poll(launch, config).boxed().await
}
