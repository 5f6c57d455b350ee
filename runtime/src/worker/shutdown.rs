//! The shutdown of a worker: by a signal, by the caller, or by a job that requests the worker's replacement.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::error::Error;

/// The time after the first signal in which further ones count as the same. Programs such as coreutils' `timeout` signal
/// the worker, then its process group; a terminal and a supervisor may both forward a Ctrl-C.
const SAME_SIGNAL: Duration = Duration::from_millis(1500);

/// The two stages of a shutdown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    /// Cancelled when the worker drains: it fetches no more jobs, and those in flight may end.
    pub(crate) drain: CancellationToken,
    /// Cancelled when the worker must exit immediately.
    pub(crate) abort: CancellationToken,
}

impl Shutdown {
    /// Drains on the first SIGTERM or SIGINT, and aborts on another one after [`SAME_SIGNAL`].
    pub(crate) async fn on_signals(self) -> Result<(), Error> {
        let signals = Signals::new().map_err(|source| Error::System {
            what: "listen for signals",
            source,
        })?;
        let names = stream::unfold(signals, |mut signals| async {
            Some((signals.next().await, signals))
        });
        self.on_each(names).await;
        Ok(())
    }

    async fn on_each(self, names: impl Stream<Item = &'static str>) {
        let mut names = pin!(names);
        let Some(name) = names.next().await else {
            return;
        };
        let first = Instant::now();
        info!(signal = %name, "Shutting down: fetching no more jobs, finishing those in flight.");
        self.drain.cancel();
        while let Some(name) = names.next().await {
            if first.elapsed() >= SAME_SIGNAL {
                warn!(signal = %name, "Received a second signal; exiting immediately.");
                return self.abort.cancel();
            }
            debug!(signal = %name, "Ignoring a repetition of the first signal.");
        }
    }

    /// Drains when the caller's future completes.
    pub(crate) async fn on(self, caller: impl Future<Output = ()>) {
        caller.await;
        self.drain.cancel();
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            // Signals are not available: wait forever.
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn signals_in_quick_succession_count_as_one() {
        let Shutdown { drain, abort } = Shutdown::default();
        let (send, signals) = futures::channel::mpsc::unbounded();
        let shutdown = Shutdown {
            drain: drain.clone(),
            abort: abort.clone(),
        };
        let task = tokio::spawn(shutdown.on_each(signals));
        let signal = async |name| {
            send.unbounded_send(name).unwrap();
            sleep(Duration::from_millis(1)).await;
        };
        assert!(!drain.is_cancelled());
        for name in ["SIGTERM", "SIGTERM", "SIGINT", "SIGINT"] {
            signal(name).await;
            assert!(drain.is_cancelled() && !abort.is_cancelled());
        }
        sleep(Duration::from_secs(1)).await;
        signal("SIGTERM").await;
        assert!(!abort.is_cancelled());
        sleep(Duration::from_secs(1)).await;
        signal("SIGTERM").await;
        assert!(abort.is_cancelled());
        task.await.unwrap();
    }
}
