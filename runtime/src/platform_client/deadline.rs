//! The time limit of a call. Time during which the process was stopped does not count.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// The delay of a timer from which on the process counts as stopped, for example by SIGSTOP or a frozen container.
const STOPPED: Duration = Duration::from_secs(1);
/// The additional time after a stop. The response may wait in the socket.
const AFTER_STOP: Duration = Duration::from_secs(5);

/// Waits for `response` until `limit` has passed. Returns `None` if it does not arrive in time.
///
/// If the process was stopped when the time was over, the response has some more time: it may have arrived meanwhile, and
/// the platform considers it delivered.
pub(super) async fn within<T>(limit: Duration, response: impl Future<Output = T>) -> Option<T> {
    let mut response = pin!(response);
    let mut deadline = Instant::now() + limit;
    loop {
        if let Ok(response) = timeout_at(deadline, &mut response).await {
            return Some(response);
        }
        if deadline.elapsed() < STOPPED {
            return None;
        }
        deadline = Instant::now() + AFTER_STOP.min(limit);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::advance;

    use super::*;

    const LIMIT: Duration = Duration::from_mins(2);

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_times_out() {
        let began = Instant::now();
        assert_eq!(within(LIMIT, std::future::pending::<()>()).await, None);
        assert_eq!(began.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_arrived_during_a_stop_is_read() {
        for stop in [LIMIT + STOPPED, LIMIT * 10] {
            let (socket, response) = oneshot::channel();
            let call = tokio::spawn(within(LIMIT, response));
            tokio::task::yield_now().await;
            advance(stop).await;
            // The task of the connection reads the socket after the timer of the call has fired.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            socket.send("job").unwrap();
            assert_eq!(call.await.unwrap(), Some(Ok("job")));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_stop_a_silent_server_times_out_soon() {
        let call = tokio::spawn(within(LIMIT, std::future::pending::<()>()));
        tokio::task::yield_now().await;
        advance(LIMIT * 10).await;
        let resumed = Instant::now();
        assert_eq!(call.await.unwrap(), None);
        assert_eq!(resumed.elapsed(), AFTER_STOP);
    }
}
