//! How a job ended.

/// How a job ended, as far as its worker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum JobOutcome {
    Completed,
    /// Its handler returned an error, or its input or output was invalid.
    Failed,
    Panicked,
    /// It ran longer than the worker allows.
    TimedOut,
    /// The worker had to end first.
    Interrupted,
    /// The platform refused its result or its chunks for good.
    Refused,
    /// The platform cancelled it.
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

    /// The value of the label `outcome` in metrics and traces.
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
