//! The messages between the benchmark and its platform, with one JSON value per line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::instruments::stats::Spread;

/// A command to the platform, on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub enum PlatformCommand {
    /// Restarts the platform with an empty queue and a latency for each call.
    Start {
        /// The latency, in milliseconds.
        latency: u64,
    },
    /// Queues these jobs, and replies when they have ended.
    Run(JobLoad),
}

/// The jobs of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobLoad {
    /// The number of jobs that run first and are not measured.
    pub warm_up: usize,
    /// The input of the jobs that are not measured.
    pub warm_input: Value,
    /// The number of jobs that are measured.
    pub jobs: usize,
    /// The input of the jobs that are measured.
    pub input: Value,
    /// The output that the last job must have.
    pub expect: ExpectedOutput,
    /// The number of jobs that the worker runs at once.
    pub concurrency: usize,
}

/// The output that a job must have, so that no contender is fast because it skips work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ExpectedOutput {
    /// A fixed output.
    Output(Value),
    /// The input of the job.
    Input,
    /// Chunks whose texts have this total length, in bytes.
    Text(usize),
}

/// A reply of the platform, on its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub enum PlatformReply {
    /// The platform listens.
    Started {
        /// The variables that connect a worker to it.
        env: Vec<(String, String)>,
    },
    /// All jobs are queued.
    Queued,
    /// The jobs that are not measured have ended.
    Warm,
    /// All jobs have ended.
    Done(LoadReport),
    /// A command failed.
    Failed(String),
}

/// The times of the measured jobs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LoadReport {
    /// The time from the end of the warm-up, or else from the first hand-out, to the last result, in nanoseconds.
    pub took: i64,
    /// The time of the first hand-out, in nanoseconds since the Unix epoch.
    pub first_hand_out: i64,
    /// The time from a job's hand-out to its accepted result, in nanoseconds.
    pub latency: Spread,
    /// The time from a result to the hand-out that takes its slot, in nanoseconds: with n concurrent jobs, from the
    /// k-th result to the hand-out n further on. Negative if the next job had already been handed out.
    pub gap: Option<Spread>,
}
