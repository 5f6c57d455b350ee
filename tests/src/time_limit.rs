//! The limit on waits in tests.

use std::future::Future;
use std::time::Duration;

/// Waits for a future.
///
/// # Panics
/// Panics if it takes more than a minute.
pub async fn within_a_minute<T>(future: impl Future<Output = T>) -> T {
    let limited = tokio::time::timeout(Duration::from_mins(1), future);
    limited.await.expect("done within a minute")
}
