//! The heartbeat, on a thread and a runtime of its own: a handler that blocks every async thread does not silence it.

use std::sync::Arc;
use std::thread;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use crate::config::Remote;
use crate::error::Error;
use crate::jobs::Jobs;
use crate::net::backoff::Backoff;
use crate::platform_client::{Api, CallError};

use super::check::WorkerHealth;

/// Beats until it is dropped.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    stop: Option<DropGuard>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Heartbeat {
    pub(crate) fn start(
        remote: Remote,
        jobs: Arc<Jobs>,
        health: Arc<WorkerHealth>,
    ) -> Result<Self, Error> {
        let system = |source| Error::System {
            what: "starting the heartbeat",
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system)?;
        // A client of its own, since connections belong to the runtime they were made on.
        let api = Api::new(remote)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("podwork-heartbeat".to_owned())
            .spawn(move || {
                runtime.block_on(stopped.run_until_cancelled(beat(api, jobs, health)));
            })
            .map_err(system)?;
        Ok(Self {
            stop: Some(stop.drop_guard()),
            thread: Some(thread),
        })
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic, if it ever had one, was shown when it happened.
            let _ = thread.join();
        }
    }
}

async fn beat(api: Api, jobs: Arc<Jobs>, health: Arc<WorkerHealth>) {
    let every = api.remote().ping_interval;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused = false;
    loop {
        ticks.tick().await;
        // A beat that does not get through is tried again, with the ids of that moment, until the next is due.
        let mut backoff = Backoff::new(every / 20, every / 4);
        let tries = async {
            loop {
                let (ids, failing) = (jobs.ids(), health.failing());
                match api.ping(&ids, failing.as_ref(), every * 2).await {
                    Ok(()) => return,
                    Err(CallError::Retryable { why, after }) => {
                        debug!("a heartbeat did not get through: {why}");
                        tokio::time::sleep(backoff.next(after)).await;
                    }
                    Err(CallError::Refused { why, .. }) => {
                        if !std::mem::replace(&mut refused, true) {
                            warn!(
                                "the platform refuses heartbeats; it may take this worker for lost: {why}"
                            );
                        }
                        return;
                    }
                }
            }
        };
        if tokio::time::timeout(every * 2, tries).await.is_err() {
            warn!(
                "no heartbeat got through for {} ms",
                (every * 2).as_millis()
            );
        }
    }
}
