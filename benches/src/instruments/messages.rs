//! What the benchmark and its platform tell each other: a JSON value a line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::instruments::stats::Spread;

/// What the platform is told, on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub enum PlatformCommand {
    /// Begin anew: an empty queue, at which each call is looked at so much later.
    Start {
        /// Milliseconds.
        latency: u64,
    },
    /// Queue these jobs and tell when they have ended.
    Run(JobLoad),
}

/// Jobs to be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobLoad {
    /// Jobs that come first and are not measured.
    pub warm_up: usize,
    /// … and their input.
    pub warm_input: Value,
    /// Jobs that are measured.
    pub jobs: usize,
    /// … and their input.
    pub input: Value,
    /// What the last of them has to end with.
    pub expect: ExpectedOutput,
    /// How many of them the worker runs at once.
    pub concurrency: usize,
}

/// What a job has to end with, so that no contender is fast by leaving work out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ExpectedOutput {
    /// This output.
    Output(Value),
    /// Its input as output.
    Input,
    /// Chunks that are texts of so many bytes together.
    Text(usize),
}

/// What the platform answers, on its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub enum PlatformReply {
    /// It listens.
    Started {
        /// The variables by which a worker finds it.
        env: Vec<(String, String)>,
    },
    /// All jobs wait.
    Queued,
    /// The jobs that are not measured have ended.
    Warm,
    /// All jobs have ended.
    Done(LoadReport),
    /// What was asked could not be done.
    Failed(String),
}

/// What was seen of the jobs that are measured.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LoadReport {
    /// From the end of the warm-up to the last result, ns. Without a warm-up: from the first hand-out.
    pub took: i64,
    /// When the first job was handed out, since the Unix epoch, ns.
    pub first_hand_out: i64,
    /// From a job's hand-out to its accepted result, ns.
    pub latency: Spread,
    /// From a result to the hand-out that it makes room for, ns: with n jobs at once, the k-th result to the hand-out
    /// n further on. Below zero where the next job was there already.
    pub gap: Option<Spread>,
}
