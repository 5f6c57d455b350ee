//! Long polls on a machine that may be suspended.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;
use tracing::info;

use crate::net::suspension::Suspensions;
use crate::platform_client::Api;

/// The time that an open poll gets after a suspension, because its response may already be in the socket.
const AFTER_SUSPENSION: Duration = Duration::from_secs(2);

/// Waits for the response to a long poll. Returns `None` if the machine was suspended meanwhile and the response did not
/// arrive before: the platform has probably closed the connection, which the worker would otherwise notice much later.
pub(super) async fn held<T>(
    api: &Api,
    suspensions: &mut Suspensions,
    poll: impl Future<Output = T>,
) -> Option<T> {
    let mut poll = pin!(poll);
    tokio::select! {
        biased;
        response = &mut poll => return Some(response),
        () = suspensions.next() => {}
    }
    let last = timeout(AFTER_SUSPENSION, poll).await.ok();
    info!("The machine was suspended; connecting to the platform again.");
    api.reconnect();
    last
}
