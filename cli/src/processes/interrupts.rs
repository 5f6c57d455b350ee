//! The signals that ask the tool to stop.

use anyhow::{Context as _, Result};

/// A listener for SIGINT, SIGTERM, and SIGHUP, which arrives when the terminal is closed. SIGHUP stays ignored if the
/// tool was started to ignore it, as by `nohup`.
#[derive(Debug)]
pub(crate) struct Interrupts {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hang_up: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Interrupts {
    pub(crate) fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listening = "cannot listen for signals";
        let hang_up = SignalKind::hangup();
        let ignored = podwork_supervisor::is_ignored(hang_up.as_raw_value());
        let hang_up = (!ignored).then(|| signal(hang_up)).transpose();
        Ok(Self {
            hang_up: hang_up.context(listening)?,
            interrupt: signal(SignalKind::interrupt()).context(listening)?,
            terminate: signal(SignalKind::terminate()).context(listening)?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = async {
                match &mut self.hang_up {
                    Some(hang_up) => drop(hang_up.recv().await),
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

#[cfg(not(unix))]
impl Interrupts {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {})
    }

    pub(crate) async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
