//! Long polls on a machine that may be suspended.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;
use tracing::info;

/// The time that an open poll gets after a suspension, because its response may already be in the socket.
const AFTER_SUSPENSION: Duration = Duration::from_secs(2);

/// Waits for the response to a long poll. Once the machine was `suspended`, calls `reconnect`, and returns `None` unless
/// the response arrived before: the platform has probably closed the connection, which the worker would otherwise notice
/// much later.
pub(super) async fn held<T>(
    poll: impl Future<Output = T>,
    suspended: impl Future<Output = ()>,
    reconnect: impl FnOnce(),
) -> Option<T> {
    let mut poll = pin!(poll);
    tokio::select! {
        biased;
        response = &mut poll => return Some(response),
        () = suspended => {}
    }
    let last = timeout(AFTER_SUSPENSION, poll).await.ok();
    info!("The machine was suspended; connecting to the platform again.");
    reconnect();
    last
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_poll_that_a_suspension_interrupts_is_given_up() {
        let open = async |response_after: u64, suspended_after: u64| {
            let poll = sleep(Duration::from_millis(response_after));
            let suspended = sleep(Duration::from_millis(suspended_after));
            let mut reconnected = false;
            let response = held(poll, suspended, || reconnected = true).await;
            (response.is_some(), reconnected)
        };
        assert_eq!(open(90_000, 100_000).await, (true, false));
        // The response was in the socket.
        assert_eq!(open(91_999, 90_000).await, (true, true));
        assert_eq!(open(92_001, 90_000).await, (false, true));
        assert_eq!(held(ready(1), ready(()), || {}).await, Some(1));
        assert_eq!(held(pending::<u8>(), ready(()), || {}).await, None);
    }
}
