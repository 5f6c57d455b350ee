//! The heartbeat. It has its own thread and async runtime, so a handler that blocks all other async threads cannot stop
//! it.

use std::convert::Infallible;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use podwork_protocol::template::encode;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use crate::config::Remote;
use crate::error::Error;
use crate::jobs::Jobs;
use crate::net::backoff::Backoff;
use crate::net::suspension::Suspensions;
use crate::platform_client::{Api, CallError};
use crate::threads::restarted;

use super::check::WorkerHealth;

/// The shortest interval between heartbeats, whatever the environment says.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// The maximum length of the ids in the URL of a heartbeat, in bytes. HTTP libraries limit URLs to 64 KiB or less.
const MAX_IDS: usize = 32 * 1024;

/// A running heartbeat. Dropping it stops it.
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
            what: "start the heartbeat",
            source,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system)?;
        // It needs its own client, since connections belong to the runtime that opened them.
        let api = Api::new(remote)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("podwork-heartbeat".to_owned())
            .spawn(move || {
                let every = api.remote().ping_interval;
                let beating = restarted("heartbeat", every, || beat(&api, &jobs, &health));
                let ended = runtime.block_on(stopped.run_until_cancelled(beating));
                if let Some(never) = ended {
                    match never {}
                }
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
            // The thread catches the panics of its task.
            let _ = thread.join();
        }
    }
}

async fn beat(api: &Api, jobs: &Jobs, health: &WorkerHealth) -> Infallible {
    let every = api.remote().ping_interval.max(SHORTEST_INTERVAL);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused = false;
    let mut suspensions = Suspensions::new();
    loop {
        ticks.tick().await;
        if suspensions.noticed() {
            api.reconnect();
        }
        // A failed heartbeat is retried, with the current job ids, until two intervals have passed.
        let mut backoff = Backoff::new(every / 20, every / 4);
        let tries = async {
            loop {
                let (ids, failing) = (jobs.ids(), health.failing());
                let pinging = async {
                    for ids in parts(&ids) {
                        api.ping(ids, failing.as_ref(), every * 2).await?;
                    }
                    Ok(())
                };
                match pinging.await {
                    Ok(()) => return,
                    Err(CallError::Retryable { why, after }) => {
                        debug!(error = %why, "Heartbeat failed; retrying.");
                        tokio::time::sleep(backoff.next(after)).await;
                    }
                    Err(CallError::Refused { why, .. }) => {
                        if !std::mem::replace(&mut refused, true) {
                            warn!(
                                error = %why,
                                "The platform rejects heartbeats and may consider this worker lost."
                            );
                        }
                        return;
                    }
                }
            }
        };
        if tokio::time::timeout(every * 2, tries).await.is_err() {
            warn!(
                elapsed_ms = (every * 2).as_millis(),
                "No heartbeat has reached the platform."
            );
        }
    }
}

/// Splits ids into the lists of one or more heartbeats, whose URLs are not too long.
fn parts(ids: &[String]) -> Vec<&[String]> {
    let mut parts = Vec::new();
    let (mut start, mut length) = (0, 0);
    for (at, id) in ids.iter().enumerate() {
        // With the encoded comma before it.
        let added = encode(id).len() + 3;
        if at > start && length + added > MAX_IDS {
            parts.push(&ids[start..at]);
            (start, length) = (at, 0);
        }
        length += added;
    }
    parts.push(&ids[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_or_long_ids_are_sent_in_several_heartbeats() {
        assert_eq!(parts(&[]), [&[] as &[String]]);
        let ids: Vec<String> = (0..10_000).map(|n| format!("job-{n}")).collect();
        assert_eq!(parts(&ids[..1000]).len(), 1);
        let long = vec!["é".repeat(512); 100];
        for ids in [ids, long] {
            let parts = parts(&ids);
            assert!(parts.len() > 1 && parts.len() < 30, "{}", parts.len());
            assert_eq!(parts.concat(), ids);
            for part in parts {
                assert!(encode(&part.join(",")).len() <= MAX_IDS);
            }
        }
    }
}
