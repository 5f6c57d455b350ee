//! The least speed of a download.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::client::DownloadFailure;

/// Bytes a second that are nearly nothing.
const NEARLY_NOTHING: u64 = 1024;

/// Sees to it that a body comes no slower than it may.
pub(super) struct MinimumSpeed {
    idle_timeout: Duration,
    /// When the present window began, and what came in it.
    since: Instant,
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

    /// Most bytes of a window that are too few.
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
            DownloadFailure::retryable(format!("only {bytes} bytes came within {idle_timeout:?}"))
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
