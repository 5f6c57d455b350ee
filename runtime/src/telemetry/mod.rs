//! The worker's log, its metrics (feature `metrics`) and its traces (feature `otel`).
//!
//! The code that takes, runs and delivers jobs calls here without conditions. With neither feature the calls are empty
//! and their arguments have no size.

use std::fmt;

#[cfg(feature = "metrics")]
pub(crate) mod figures;
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

/// The result of a take.
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

/// The end of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PostFate {
    Accepted,
    /// For good.
    Refused,
    /// Not accepted before its deadline.
    GivenUp,
    /// Replaced by newer progress.
    Outdated,
}

/// The worker that telemetry describes.
#[cfg_attr(
    not(all(feature = "metrics", feature = "otel")),
    allow(dead_code, reason = "passed to both features")
)]
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) handler: &'static str,
    /// Whether its handler takes batches.
    pub(crate) batches: bool,
    pub(crate) worker_id: String,
}

/// Why a batch goes to the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum BatchReason {
    Full,
    Waited,
    Draining,
}

impl fmt::Display for BatchReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "it is full",
            Self::Waited => "its first job has waited long enough",
            Self::Draining => "no more jobs are taken",
        })
    }
}

/// The jobs in flight, counted.
#[cfg_attr(
    not(feature = "metrics"),
    allow(dead_code, reason = "read by metrics only")
)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// The maximum number of jobs that may run at once.
    pub(crate) limit: usize,
    pub(crate) running: usize,
    /// Jobs whose handler has ended and whose last posts have not been accepted yet.
    pub(crate) undelivered: usize,
    /// Bytes that waited in their outboxes when each handler ended.
    pub(crate) bytes: usize,
}
