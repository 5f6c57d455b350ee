//! How one job is ended from outside.

use tokio_util::sync::CancellationToken;

/// The tokens by which one job is ended before its handler is done.
#[derive(Debug, Clone)]
pub(crate) struct CancelTokens {
    /// The platform cancelled the job: nothing more of it is posted.
    pub(crate) by_platform: CancellationToken,
    /// The worker's time is over: the job fails, and a handler that cannot be ended is left behind.
    pub(crate) by_worker: CancellationToken,
    /// What the handler sees: cancelled with the first, and for the second and the job's timeout by whoever runs it.
    pub(crate) handler: CancellationToken,
}

impl CancelTokens {
    pub(super) fn new(by_worker: &CancellationToken) -> Self {
        let by_platform = CancellationToken::new();
        Self {
            handler: by_platform.child_token(),
            by_worker: by_worker.clone(),
            by_platform,
        }
    }
}
