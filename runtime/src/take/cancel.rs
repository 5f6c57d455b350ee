//! The stop channel: the platform names jobs that were cancelled, timed out or expired.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use podwork_protocol::template::Url;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::jobs::Jobs;
use crate::net::backoff::Backoff;
use crate::platform_client::{Api, CallError};

use super::poll::EmptyPolls;

/// Listens for ever; without a stop channel, to nothing.
pub(crate) async fn listen(api: Api, jobs: Arc<Jobs>) -> Infallible {
    let Some(url) = api.remote().take.stop() else {
        info!("The job-take URL has no stop channel beside it; a cancelled job runs to its end.");
        return pending().await;
    };
    listen_at(&api, &jobs, &url).await
}

async fn listen_at(api: &Api, jobs: &Jobs, url: &Url) -> Infallible {
    let mut errors = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    // A platform without this route is asked ever more rarely: it may be updated one day.
    let mut absent = Backoff::new(Duration::from_secs(1), Duration::from_mins(5));
    let mut empty = EmptyPolls::default();
    loop {
        let asked = Instant::now();
        let delay = match api.stop_signals(url).await {
            Ok(signals) => {
                errors.reset();
                absent.reset();
                let mut stopped = false;
                for id in &signals.jobs_to_stop {
                    if jobs.cancel(id) {
                        stopped = true;
                    } else {
                        debug!("told to stop job {id}, which is not here");
                    }
                }
                // Signals for jobs that are not here count as none: they may come again at once.
                empty.pause(asked, !stopped)
            }
            Err(CallError::Refused { status, why }) => {
                if status != StatusCode::NOT_FOUND {
                    warn!("the stop channel was refused: {why}");
                }
                absent.next(None)
            }
            Err(CallError::Retryable { why, after }) => {
                debug!("the stop channel failed: {why}");
                errors.next(after)
            }
        };
        tokio::time::sleep(delay).await;
    }
}
