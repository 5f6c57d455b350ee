//! The stop channel, on which the platform names jobs that were cancelled, timed out or expired.

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
use crate::net::suspension::Suspensions;
use crate::platform_client::{Api, CallError};

use super::held::held;
use super::poll::EmptyPolls;

/// Polls the stop channel and cancels the jobs that it names. Never returns. Without a stop channel, it does nothing.
pub(crate) async fn listen(api: Api, jobs: Arc<Jobs>) -> Infallible {
    let Some(url) = api.remote().take.stop() else {
        info!("No stop channel for this job-take URL; cancelled jobs run to completion.");
        return pending().await;
    };
    listen_at(&api, &jobs, &url).await
}

async fn listen_at(api: &Api, jobs: &Jobs, url: &Url) -> Infallible {
    let mut errors = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    // A platform without this route is polled less and less often, in case it is updated later.
    let mut absent = Backoff::new(Duration::from_secs(1), Duration::from_mins(5));
    let mut empty = EmptyPolls::default();
    let mut suspensions = Suspensions::new();
    loop {
        let asked = Instant::now();
        let open = api.stop_signals(url);
        let Some(answer) = held(open, suspensions.next(), || api.reconnect()).await else {
            continue;
        };
        let delay = match answer {
            Ok(signals) => {
                errors.reset();
                absent.reset();
                let mut stopped = false;
                for id in &signals.jobs_to_stop {
                    if jobs.cancel(id) {
                        stopped = true;
                    } else {
                        debug!(job_id = %id, "Ignoring a stop signal: the job is not in flight, or already cancelled.");
                    }
                }
                // Signals that cancel nothing count as an empty answer: the platform may repeat them immediately.
                empty.pause(asked, !stopped)
            }
            Err(CallError::Refused { status, why }) => {
                if status != StatusCode::NOT_FOUND {
                    warn!(
                        error = %why,
                        "The platform rejected a poll of the stop channel; retrying later."
                    );
                }
                absent.next(None)
            }
            Err(CallError::Retryable { why, after }) => {
                debug!(error = %why, "Poll of the stop channel failed; retrying.");
                errors.next(after)
            }
        };
        tokio::time::sleep(delay).await;
    }
}
