//! `RUNPOD_REALTIME_PORT`: jobs come by `POST /<endpoint>/realtime`, and the answer is their result.

use podwork_platform::Platform;
use tracing::info;

use crate::config::Realtime;
use crate::error::Error;
use crate::handler::Handler;
use crate::handler::state::StateSource;
use crate::worker::Launch;

use super::loopback::work_for;

/// Realtime calls come from outside the container.
const HOST: &str = "0.0.0.0";

pub(super) async fn run<H: Handler, S: StateSource<H::State>>(
    realtime: &Realtime,
    mut launch: Launch<S>,
) -> Result<(), Error> {
    launch.settings.fix_concurrency(realtime.concurrency);
    // Its other operations stay on loopback: only realtime calls are for the outside.
    let platform = Platform::builder().start().await?;
    let addr = platform
        .serve_realtime(HOST, realtime.port, &realtime.endpoint_id)
        .await?;
    info!(
        "Serving realtime calls at http://{addr}/{}/realtime.",
        realtime.endpoint_id
    );
    let ended = work_for::<H, S>(&platform, launch).await;
    platform.shutdown().await;
    ended
}
