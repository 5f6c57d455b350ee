//! The signals that ask the tool to stop.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The time after a signal in which further ones count as the same. Programs such as coreutils' `timeout` signal the tool,
/// then its process group.
const SAME_SIGNAL: Duration = Duration::from_millis(1500);

/// A listener for SIGINT, SIGTERM, and SIGHUP, which arrives when the terminal is closed. SIGHUP stays ignored if the
/// tool was started to ignore it, as by `nohup`.
#[derive(Debug)]
pub(crate) struct Interrupts {
    source: InterruptSource,
    /// The time of the last signal that did not repeat another one.
    last: Option<Instant>,
}

impl Interrupts {
    pub(crate) fn new() -> Result<Self> {
        let source = InterruptSource::new()?;
        let last = None;
        Ok(Self { source, last })
    }

    /// Waits for a signal, and returns the exit code by which shells report a program that it ended. Skips a signal that
    /// repeats the last one. Cancel safe.
    pub(crate) async fn next(&mut self) -> u8 {
        loop {
            let code = self.source.next().await;
            if self.last.is_none_or(|last| last.elapsed() >= SAME_SIGNAL) {
                self.last = Some(Instant::now());
                return code;
            }
        }
    }
}

#[derive(Debug)]
struct InterruptSource {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hang_up: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl InterruptSource {
    fn new() -> Result<Self> {
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

    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            () = async {
                match &mut self.hang_up {
                    Some(hang_up) => drop(hang_up.recv().await),
                    None => std::future::pending().await,
                }
            } => 129,
        }
    }
}

#[cfg(not(unix))]
impl InterruptSource {
    fn new() -> Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) -> u8 {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        130
    }
}
