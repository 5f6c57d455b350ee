//! The volume cache of a worker: hydrated before the set-up, synced while the worker runs.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, warn};

use crate::cache::VolumeCache;
use crate::threads::guarded;

/// Hydrates the cache, then runs the set-up.
pub(super) fn hydrated<T: 'static>(
    cache: Option<VolumeCache>,
    set_up: BoxFuture<'static, T>,
) -> BoxFuture<'static, T> {
    let Some(cache) = cache else {
        return set_up;
    };
    async move {
        cache.hydrate().await;
        set_up.await
    }
    .boxed()
}

/// The task that syncs the cache after the set-up, after jobs, and at shutdown. Dropping this stops it immediately.
pub(super) struct Upkeep {
    job_ended: Arc<Notify>,
    closing: CancellationToken,
    closed: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

impl Upkeep {
    pub(super) fn start(cache: VolumeCache) -> Self {
        let job_ended = Arc::new(Notify::new());
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let run = run(cache, Arc::clone(&job_ended), closing.clone());
        let guard = closed.clone().drop_guard();
        let task = tokio::spawn(async {
            let _closed = guard;
            if let Err(why) = guarded(run).await {
                error!(error = %why, "The cache panicked; it is no longer synced.");
            }
        });
        Self {
            job_ended,
            closing,
            closed,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Returns the notifier to call when a job has ended.
    pub(super) fn job_ended(&self) -> Arc<Notify> {
        Arc::clone(&self.job_ended)
    }

    /// Runs the last sync, for `left` at most.
    pub(super) async fn end(&self, left: Duration) {
        self.closing.cancel();
        if timeout(left, self.closed.cancelled()).await.is_err() {
            warn!("The last cache sync did not finish within the grace period; giving up.");
        }
    }
}

async fn run(cache: VolumeCache, job_ended: Arc<Notify>, closing: CancellationToken) {
    loop {
        cache.sync().await;
        let due = async { tokio::join!(job_ended.notified(), sleep(cache.least_interval())) };
        if closing.run_until_cancelled(due).await.is_none() {
            break;
        }
    }
    cache.sync().await;
}
