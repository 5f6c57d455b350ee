//! Told to end: by a signal, by the caller, or by a job that asks for the worker's replacement.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::Error;

/// The two steps of ending.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shutdown {
    /// No further take; what runs may end.
    pub(crate) drain: CancellationToken,
    /// Leave at once.
    pub(crate) abort: CancellationToken,
}

impl Shutdown {
    /// Drains when `signal` comes, and aborts when it comes again.
    pub(crate) async fn on_signals(self) -> Result<(), Error> {
        let mut signals = Signals::new().map_err(|source| Error::System {
            what: "listening for signals",
            source,
        })?;
        let name = signals.next().await;
        info!("{name}: taking no more jobs, and ending when those at hand are done.");
        self.drain.cancel();
        let name = signals.next().await;
        warn!("{name} again: ending at once.");
        self.abort.cancel();
        Ok(())
    }

    /// Drains when the caller's future ends.
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
            // No signal will ever come.
            Err(_) => std::future::pending().await,
        }
    }
}
