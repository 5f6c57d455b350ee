//! The messages between the benchmark and its platform: one JSON value a line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::instruments::stats::Spread;

/// A command to the platform, on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub enum PlatformCommand {
    /// Restarts with an empty queue and this latency for each call.
    Start {
        /// Milliseconds.
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
    /// The input of those.
    pub warm_input: Value,
    /// The number of jobs that are measured.
    pub jobs: usize,
    /// The input of those.
    pub input: Value,
    /// The output that the last job must have.
    pub expect: ExpectedOutput,
    /// The number of jobs that the worker runs at once.
    pub concurrency: usize,
}

/// The output that a job must have, so that no contender is fast because it leaves work out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ExpectedOutput {
    /// This output.
    Output(Value),
    /// Its input as output.
    Input,
    /// Chunks whose texts have so many bytes together.
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
    /// From the end of the warm-up to the last result, ns. Without a warm-up: from the first hand-out.
    pub took: i64,
    /// When the first job was handed out, since the Unix epoch, ns.
    pub first_hand_out: i64,
    /// From a job's hand-out to its accepted result, ns.
    pub latency: Spread,
    /// From a result to the hand-out that it makes room for, ns: with n jobs at once, the k-th result to the hand-out
    /// n further on. Negative if the next job had been handed out already.
    pub gap: Option<Spread>,
}
