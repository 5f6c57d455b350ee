//! The least speed of a download.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::client::DownloadFailure;

/// Bytes a second that are nearly nothing.
const NEARLY_NOTHING: u64 = 1024;

/// Sees to it that a body comes no slower than it may.
pub(super) struct MinimumSpeed {
    patience: Duration,
    /// When the present window began, and what came in it.
    since: Instant,
    bytes: u64,
}

impl MinimumSpeed {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Most bytes of a window that are too few.
    fn too_few(&self) -> u64 {
        self.patience.as_secs().max(1) * NEARLY_NOTHING
    }

    pub(super) async fn keep<T>(
        &self,
        next: impl Future<Output = T>,
    ) -> Result<T, DownloadFailure> {
        let next = timeout_at(self.since + self.patience, next).await;
        next.map_err(|_| {
            let (bytes, patience) = (self.bytes, self.patience);
            DownloadFailure::retryable(format!("only {bytes} bytes came within {patience:?}"))
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
