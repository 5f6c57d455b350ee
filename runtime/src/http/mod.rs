//! Jobs by direct HTTP calls, with no platform in between: the realtime server, `POST /<endpoint>/realtime`.
//!
//! A request's body is a job, and its answer the job's result. Requests wait for a slot, up to a limit, and go through
//! the same table, run and outbox as jobs that are taken from a platform.

mod answer;
mod listener;
mod realtime;

use std::sync::Arc;
use std::time::Duration;

use podwork_protocol::limits;
use tracing::info;

use crate::config::{Config, Realtime};
use crate::error::Error;
use crate::handler::Handler;
use crate::handler::state::StateSource;
use crate::worker::Launch;

use listener::Listener;
use realtime::{Calls, dispatch};

/// Realtime calls come from outside the container.
const HOST: &str = "0.0.0.0";
/// How long connections may take to write their last answers once the last job has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Sets a worker up, and serves realtime calls with it until it is to end.
pub(crate) async fn serve<H: Handler, S: StateSource<H::State>>(
    realtime: &Realtime,
    mut launch: Launch<S>,
    config: Config,
) -> Result<(), Error> {
    // Nobody else limits how long a job may run.
    let timeout = &mut launch.settings.job.timeout;
    timeout.get_or_insert(limits::DEFAULT_EXECUTION_TIMEOUT);
    // Before the set-up: a port that is taken is known at once.
    let listener = Listener::bind(HOST, realtime.port).await?;
    let Some(engine) = launch.start::<H>(config).await? else {
        return Ok(());
    };
    engine.jobs.set_concurrency(realtime.concurrency.max(1));
    let (calls, arriving) = Calls::new(&realtime.endpoint_id);
    let calls = Arc::new(calls);
    info!(
        "Serving realtime calls at http://{}{}.",
        listener.addr(),
        calls.path()
    );
    let server = listener.serve(calls, engine.shutdown.drain.clone());
    let ended = engine.run(dispatch(&engine, arriving)).await;
    server.end(LAST_ANSWERS).await;
    ended
}
