//! The platform's clock, which can be moved forward.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::Moment;

/// A clock shared by all endpoints of a platform.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// The start time; `None` if the clock moves only by [`advance`](Self::advance).
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

    /// Creates a clock that moves only by [`advance`](Self::advance).
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

    /// Moves the clock forward.
    pub(crate) fn advance(&self, by: Duration) {
        self.ahead.send_modify(|ahead| *ahead += by);
    }

    /// Waits until the clock has reached `at`.
    pub(crate) async fn sleep_until(&self, at: Moment) {
        let mut moved = self.ahead.subscribe();
        loop {
            let left = at.since_start().saturating_sub(self.time());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                // The sender is a field of `self`, so the channel is open and this does not fail.
                _ = moved.changed() => {}
            }
        }
    }

    /// Returns the time since the start.
    fn time(&self) -> Duration {
        let passed = self.started.map_or(Duration::ZERO, |at| at.elapsed());
        passed + *self.ahead.borrow()
    }
}
