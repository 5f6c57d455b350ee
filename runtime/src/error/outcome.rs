//! The outcome of a job.

/// The outcome of a job, as far as its worker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum JobOutcome {
    Completed,
    /// The handler returned an error, or the input or the output was invalid.
    Failed,
    Panicked,
    /// The job ran longer than the worker's limit.
    TimedOut,
    /// The worker shut down first.
    Interrupted,
    /// The platform rejected the result or a chunk permanently.
    Refused,
    /// The platform cancelled the job.
    Cancelled,
}

#[cfg(any(feature = "metrics", feature = "otel"))]
impl JobOutcome {
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [Self; 7] = [
        Self::Completed,
        Self::Failed,
        Self::Panicked,
        Self::TimedOut,
        Self::Interrupted,
        Self::Refused,
        Self::Cancelled,
    ];

    /// Returns the value of the label `outcome` in metrics and traces.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
            Self::Refused => "refused",
            Self::Cancelled => "stopped",
        }
    }
}
