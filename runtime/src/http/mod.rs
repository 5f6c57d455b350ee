//! The realtime server: clients submit jobs directly, without a platform, by `POST /<endpoint>/realtime`.
//!
//! The body of a request is a job, and the response is the job's result. A limited number of requests wait for a slot.
//! Then they pass through the same job table, handler and outbox as jobs from a platform.

mod answer;
mod listener;
mod realtime;

use std::sync::Arc;
use std::time::Duration;

use podwork_protocol::limits;
use tracing::info;

use crate::config::{Config, Realtime};
use crate::error::Error;
use crate::worker::{Engine, Launch};

use listener::Listener;
use realtime::{Calls, dispatch};

/// Listens on all interfaces, since realtime calls come from outside the container.
const HOST: &str = "0.0.0.0";
/// The maximum time for connections to write their last responses after the last job has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Sets a worker up and serves realtime calls until the worker shuts down.
pub(crate) async fn serve(
    realtime: &Realtime,
    mut launch: Launch,
    config: Config,
) -> Result<(), Error> {
    // There is no platform that limits the run time of a job.
    let timeout = &mut launch.settings.job.timeout;
    timeout.get_or_insert(limits::DEFAULT_EXECUTION_TIMEOUT);
    // Bind before the set-up, so that a port in use is reported immediately.
    let listener = Listener::bind(HOST, realtime.port).await?;
    match launch.start(config).await? {
        Some(engine) => answer_calls(realtime, listener, engine).await,
        None => Ok(()),
    }
}

async fn answer_calls(
    realtime: &Realtime,
    listener: Listener,
    engine: Engine,
) -> Result<(), Error> {
    engine.jobs.set_concurrency(realtime.concurrency.max(1));
    let (calls, arriving) = Calls::new(&realtime.endpoint_id);
    let calls = Arc::new(calls);
    let url = format!("http://{}{}", listener.addr(), calls.path());
    info!(%url, "Serving realtime calls.");
    let server = listener.serve(calls, engine.shutdown.drain.clone());
    let ended = engine.run(dispatch(&engine, arriving)).await;
    server.end(LAST_ANSWERS).await;
    ended
}
