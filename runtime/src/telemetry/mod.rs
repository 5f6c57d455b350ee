//! What the worker tells of itself while it works: figures (feature `metrics`) and traces (feature `otel`).
//!
//! The code that takes, runs and delivers notes here what it does, in single calls without conditions. With neither
//! feature they are empty, and what they are given is of no size.

use std::fmt;

#[cfg(feature = "metrics")]
pub(crate) mod figures;
pub(crate) mod log;
#[cfg(not(any(feature = "metrics", feature = "otel")))]
mod off;
#[cfg(any(feature = "metrics", feature = "otel"))]
mod on;
#[cfg(any(feature = "metrics", feature = "otel"))]
mod outcome;
#[cfg(feature = "metrics")]
mod serve;
#[cfg(feature = "otel")]
pub(crate) mod traces;

#[cfg(not(any(feature = "metrics", feature = "otel")))]
pub(crate) use off::{JobNotes, Plan, PostNotes, Serving, Telemetry, Took};
#[cfg(any(feature = "metrics", feature = "otel"))]
pub(crate) use on::{JobNotes, Plan, PostNotes, Serving, Telemetry, Took};

/// What a take brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Jobs,
    Empty,
    Error,
}

/// What a post carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Result,
    Chunk,
    Progress,
}

/// What became of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Posted {
    Accepted,
    /// For good.
    Refused,
    /// Its time was over.
    GivenUp,
    /// There was something newer to say.
    Outdated,
}

/// Which worker it is.
#[cfg_attr(
    not(all(feature = "metrics", feature = "otel")),
    allow(dead_code, reason = "told to both, whether they are there or not")
)]
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) handler: &'static str,
    /// It is handed its jobs together.
    pub(crate) batches: bool,
    pub(crate) worker_id: String,
}

/// Why a batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    Full,
    Waited,
    Draining,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "it is full",
            Self::Waited => "its first job has waited long enough",
            Self::Draining => "no more jobs are taken",
        })
    }
}

/// How much the worker has in hand.
#[cfg_attr(
    not(feature = "metrics"),
    allow(dead_code, reason = "asked only when figures are")
)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Most jobs at once.
    pub(crate) limit: usize,
    pub(crate) running: usize,
    /// Ended jobs whose last posts are yet to be accepted.
    pub(crate) undelivered: usize,
    /// Of theirs, as it was when each ended.
    pub(crate) bytes: usize,
}
