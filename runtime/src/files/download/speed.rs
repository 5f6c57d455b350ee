//! The minimum speed of a download.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::client::DownloadFailure;

/// The minimum speed, in bytes per second.
const NEARLY_NOTHING: u64 = 1024;

/// Fails an attempt whose body arrives too slowly.
pub(super) struct MinimumSpeed {
    idle_timeout: Duration,
    /// The start of the current window.
    since: Instant,
    /// The number of bytes received in the current window.
    bytes: u64,
}

impl MinimumSpeed {
    pub(super) fn new(idle_timeout: Duration) -> Self {
        Self {
            idle_timeout,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Returns the number of bytes that a window must exceed.
    fn too_few(&self) -> u64 {
        self.idle_timeout.as_secs().max(1) * NEARLY_NOTHING
    }

    pub(super) async fn keep<T>(
        &self,
        next: impl Future<Output = T>,
    ) -> Result<T, DownloadFailure> {
        let next = timeout_at(self.since + self.idle_timeout, next).await;
        next.map_err(|_| {
            let (bytes, idle_timeout) = (self.bytes, self.idle_timeout);
            DownloadFailure::retryable(format!("only {bytes} bytes received in {idle_timeout:?}"))
        })
    }

    pub(super) fn came(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes > self.too_few() {
            self.bytes = 0;
            self.since = Instant::now();
        }
    }
}
