//! Reasons to reject a call.

use std::time::Duration;

/// The reason why a call is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The job or endpoint does not exist.
    NotFound(String),
    /// The call is invalid.
    Bad(String),
    /// The call conflicts with the job's state, or its worker does not hold the job.
    Conflict(String),
    /// A payload exceeds its limit.
    TooLarge(String),
    /// A limit on jobs or workers is reached; retry later.
    Full(String),
    /// The call exceeds its rate limit; retry after this time.
    Often(Duration),
}
