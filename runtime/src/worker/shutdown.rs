//! The shutdown of a worker: by a signal, by the caller, or by a job that requests the worker's replacement.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::Error;

/// The two stages of a shutdown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    /// Cancelled when the worker drains: it fetches no more jobs, and those in flight may end.
    pub(crate) drain: CancellationToken,
    /// Cancelled when the worker must exit immediately.
    pub(crate) abort: CancellationToken,
}

impl Shutdown {
    /// Drains on the first SIGTERM or SIGINT, and aborts on the second.
    pub(crate) async fn on_signals(self) -> Result<(), Error> {
        let mut signals = Signals::new().map_err(|source| Error::System {
            what: "listen for signals",
            source,
        })?;
        let name = signals.next().await;
        info!(signal = %name, "Shutting down: fetching no more jobs, finishing those in flight.");
        self.drain.cancel();
        let name = signals.next().await;
        warn!(signal = %name, "Received a second signal; exiting immediately.");
        self.abort.cancel();
        Ok(())
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
