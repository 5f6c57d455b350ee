//! How a job ended, as figures and traces show it.

use crate::error::HandlerError;

/// How a job ended, for all that this worker can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Completed,
    Failed,
    Panicked,
    TimedOut,
    /// The worker had to end first.
    Interrupted,
    /// The platform did not accept what it came to.
    Refused,
    Stopped,
}

impl Outcome {
    #[cfg(feature = "metrics")]
    pub(super) const ALL: [Self; 7] = [
        Self::Completed,
        Self::Failed,
        Self::Panicked,
        Self::TimedOut,
        Self::Interrupted,
        Self::Refused,
        Self::Stopped,
    ];

    /// By the failure's kind: those of the runtime's own cannot be the name of a type.
    pub(super) fn of(failure: Option<&HandlerError>) -> Self {
        match failure.map(HandlerError::kind) {
            None => Self::Completed,
            Some("panic") => Self::Panicked,
            Some("timeout") => Self::TimedOut,
            Some("shutdown") => Self::Interrupted,
            Some("chunk_refused" | "result_refused") => Self::Refused,
            Some(_) => Self::Failed,
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
            Self::Refused => "refused",
            Self::Stopped => "stopped",
        }
    }
}
