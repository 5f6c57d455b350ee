//! The platform's clock, which can be set ahead.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::Moment;

/// Shared by all endpoints of a platform.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// `None`: it moves only when it is set ahead.
    started: Option<Instant>,
    ahead: watch::Sender<Duration>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            started: Some(Instant::now()),
            ahead: watch::Sender::new(Duration::ZERO),
        }
    }

    /// A clock that moves only when it is set ahead.
    #[cfg(test)]
    pub(crate) fn at_rest() -> Self {
        Self {
            started: None,
            ..Self::new()
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment::after_start(self.time())
    }

    /// Sets it further ahead.
    pub(crate) fn advance(&self, by: Duration) {
        self.ahead.send_modify(|ahead| *ahead += by);
    }

    /// Waits until it shows `at`.
    pub(crate) async fn sleep_until(&self, at: Moment) {
        let mut moved = self.ahead.subscribe();
        loop {
            let left = at.since_start().saturating_sub(self.time());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                // The sender is here, so this is no error.
                _ = moved.changed() => {}
            }
        }
    }

    /// The time since the start.
    fn time(&self) -> Duration {
        let passed = self.started.map_or(Duration::ZERO, |at| at.elapsed());
        passed + *self.ahead.borrow()
    }
}
