//! The platform's clock, which can be set ahead.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Shared by all endpoints of a platform.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    ahead: watch::Sender<Duration>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            ahead: watch::Sender::new(Duration::ZERO),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::now() + *self.ahead.borrow()
    }

    /// Sets it further ahead.
    pub(crate) fn advance(&self, by: Duration) {
        self.ahead.send_modify(|ahead| *ahead += by);
    }

    /// Waits until it shows `at`.
    pub(crate) async fn sleep_until(&self, at: Instant) {
        let mut moved = self.ahead.subscribe();
        loop {
            let left = at.saturating_duration_since(self.now());
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
}
