use std::fmt;

use serde::{Deserialize, Serialize};

/// The status of a job.
///
/// `IN_QUEUE → IN_PROGRESS → COMPLETED | FAILED | CANCELLED | TIMED_OUT`. If a worker is lost, its jobs are requeued:
/// from `IN_PROGRESS` to `IN_QUEUE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    /// The job waits for a worker.
    InQueue,
    /// A worker runs the job.
    InProgress,
    /// The job ended with an output.
    Completed,
    /// The job ended with an error.
    Failed,
    /// A client cancelled the job.
    Cancelled,
    /// The job ran longer than its `executionTimeout`.
    TimedOut,
}

impl JobStatus {
    /// Returns whether the job has ended. Only `/retry` changes a final status.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::InQueue | Self::InProgress)
    }

    /// Returns the name on the wire, such as `IN_QUEUE`.
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
    fn status_words_are_written_as_on_the_wire() {
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
