use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a job stands, in the platform's words.
///
/// `IN_QUEUE → IN_PROGRESS → COMPLETED | FAILED | CANCELLED | TIMED_OUT`; a job whose worker was lost goes back from
/// `IN_PROGRESS` to `IN_QUEUE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    /// Waiting for a worker.
    InQueue,
    /// A worker runs it.
    InProgress,
    /// It ended with an output.
    Completed,
    /// It ended with an error.
    Failed,
    /// A client cancelled it.
    Cancelled,
    /// It ran longer than its `executionTimeout`.
    TimedOut,
}

impl JobStatus {
    /// Whether the job has ended; a final status does not change, but by `/retry`.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::InQueue | Self::InProgress)
    }

    /// The word on the wire, e.g. `IN_QUEUE`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InQueue => "IN_QUEUE",
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::TimedOut => "TIMED_OUT",
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_shown_is_the_word_on_the_wire() {
        for status in [
            JobStatus::InQueue,
            JobStatus::InProgress,
            JobStatus::Completed,
            JobStatus::Failed,
            JobStatus::Cancelled,
            JobStatus::TimedOut,
        ] {
            assert_eq!(
                serde_json::to_value(status).unwrap(),
                serde_json::json!(status.as_str())
            );
        }
    }
}
