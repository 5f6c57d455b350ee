//! Why a call is refused.

use std::time::Duration;

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The job or endpoint is not there.
    NotFound(String),
    /// The call makes no sense.
    Bad(String),
    /// The call comes too late, or from a worker that does not hold the job.
    Conflict(String),
    /// A payload is over its limit.
    TooLarge(String),
    /// There is no room for more; try again later.
    Full(String),
    /// The call comes too soon after others; try again after this time.
    Often(Duration),
}
