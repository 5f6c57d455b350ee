//! Running at home: the platform of `podwork-platform` in the worker's own process, and the ordinary worker pulling
//! from it over loopback HTTP. The local path is the production path.

mod realtime;
mod serve;
mod test_input;

use std::collections::HashMap;

use podwork_platform::Platform;

use crate::args::Args;
use crate::config::{Config, Realtime};
use crate::error::Error;
use crate::handler::Handler;
use crate::worker::{Settings, Shutdown, StateSource, work};

/// Id of the one worker.
const WORKER_ID: &str = "local";

/// Does what the command line or the environment asks for: serves the API or realtime calls, or runs the test input.
pub(crate) async fn run<H: Handler>(
    settings: Settings,
    source: impl StateSource<H::State>,
    args: Args,
    realtime: Option<Realtime>,
    shutdown: Shutdown,
) -> Result<(), Error> {
    if args.serve_api {
        serve::run::<H>(settings, source, args, shutdown).await
    } else if let Some(realtime) = realtime {
        realtime::run::<H>(settings, source, &realtime, shutdown).await
    } else {
        test_input::run::<H>(settings, source, args, shutdown).await
    }
}

/// Has the worker pull from `platform` until told to end.
async fn work_for<H: Handler>(
    platform: &Platform,
    settings: Settings,
    source: impl StateSource<H::State>,
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
    work::<H>(config, remote, settings, source, shutdown).await
}
