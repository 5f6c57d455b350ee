//! The worker's log, its metrics (feature `metrics`) and its traces (feature `otel`).
//!
//! The code that polls, runs and delivers jobs calls this module unconditionally. If neither feature is enabled, the
//! calls do nothing and their arguments have no size.

use std::fmt;

#[cfg(feature = "metrics")]
pub(crate) mod figures;
#[cfg(feature = "metrics")]
mod format;
pub(crate) mod log;
#[cfg(not(any(feature = "metrics", feature = "otel")))]
mod off;
#[cfg(any(feature = "metrics", feature = "otel"))]
mod on;
#[cfg(feature = "metrics")]
mod serve;
#[cfg(feature = "otel")]
pub(crate) mod traces;

#[cfg(not(any(feature = "metrics", feature = "otel")))]
pub(crate) use off::{JobTelemetry, TakeTiming, Telemetry, TelemetryGuard, TelemetrySettings};
#[cfg(any(feature = "metrics", feature = "otel"))]
pub(crate) use on::{JobTelemetry, TakeTiming, Telemetry, TelemetryGuard, TelemetrySettings};

/// The result of a poll for jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TakeResult {
    Jobs,
    Empty,
    Error,
}

/// The kind of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PostKind {
    Result,
    Chunk,
    Progress,
}

/// The outcome of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PostFate {
    Accepted,
    /// Rejected permanently.
    Refused,
    /// Not accepted before the delivery deadline.
    GivenUp,
    /// A progress update that a later post replaced.
    Outdated,
}

/// The worker that the telemetry describes.
#[cfg_attr(
    not(all(feature = "metrics", feature = "otel")),
    allow(dead_code, reason = "passed to both features")
)]
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) handler: &'static str,
    /// True if the handler takes batches.
    pub(crate) batches: bool,
    pub(crate) worker_id: String,
}

/// The reason why a batch goes to the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum BatchReason {
    Full,
    Waited,
    Draining,
}

impl fmt::Display for BatchReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Waited => "max_wait elapsed",
            Self::Draining => "draining",
        })
    }
}

/// The number of jobs in flight, and the size of their undelivered data.
#[cfg_attr(
    not(feature = "metrics"),
    allow(dead_code, reason = "read by metrics only")
)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Maximum number of jobs that may run at once.
    pub(crate) limit: usize,
    pub(crate) running: usize,
    /// Jobs whose handler has ended and whose last posts have not been accepted yet.
    pub(crate) undelivered: usize,
    /// Bytes in the outboxes of these undelivered jobs, each measured when the handler ended.
    pub(crate) bytes: usize,
}
