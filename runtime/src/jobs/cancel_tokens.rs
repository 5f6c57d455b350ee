//! The tokens that end one job from outside.

use tokio_util::sync::CancellationToken;

/// The tokens that end one job before its handler returns.
#[derive(Debug, Clone)]
pub(crate) struct CancelTokens {
    /// Cancelled when the platform cancels the job: nothing more of it is posted.
    pub(crate) by_platform: CancellationToken,
    /// Cancelled when the worker must exit: the job fails, and a handler that does not stop is abandoned.
    pub(crate) by_worker: CancellationToken,
    /// The token that the handler sees. Cancelled with `by_platform`. After `by_worker` or the job's timeout, the code
    /// that runs the job cancels it.
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
