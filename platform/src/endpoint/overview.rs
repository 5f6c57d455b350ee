//! The summary of an endpoint for the console.

use podwork_protocol::client::Health;
use podwork_protocol::{JobStatus, RawValue};
use serde::Serialize;

use super::Endpoint;
use crate::answers::raw;
use crate::engine::{Moment, WorkerState};
use crate::store::{Listed, Store, Stored};

/// The maximum number of workers in the list.
const MOST_WORKERS: usize = 100;
/// The maximum size of a progress in the list, in bytes. Larger ones are left out.
const MOST_PROGRESS: usize = 1024;

/// The data that the console shows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Overview {
    health: Health,
    late_results: u64,
    workers: Vec<WorkerLine>,
    /// The latest jobs, newest first.
    jobs: Vec<JobLine>,
}

/// One worker of the list.
#[derive(Debug, Serialize)]
struct WorkerLine {
    id: String,
    state: WorkerState,
    jobs: usize,
    /// The time since the worker's last call, in milliseconds.
    silent: u64,
}

/// One job of the list. Times are in milliseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JobLine {
    id: String,
    status: JobStatus,
    /// The time since the job was queued.
    age: u64,
    delay_time: Option<u64>,
    execution_time: Option<u64>,
    /// The time since the job was handed out, while it runs.
    running: Option<u64>,
    worker_id: Option<String>,
    progress: Option<Box<RawValue>>,
    chunks: usize,
}

impl<S: Store> Endpoint<S> {
    pub(crate) async fn overview(&self) -> Overview {
        let now = self.store.now();
        let health = self.health().await;
        let mut workers = self.store.workers().await;
        workers.sort_by(|one, other| one.id.cmp(&other.id));
        workers.truncate(MOST_WORKERS);
        let jobs = self.store.latest().await;
        Overview {
            health,
            late_results: self.late_results(),
            workers: workers
                .iter()
                .map(|listed| WorkerLine::of(listed, now))
                .collect(),
            jobs: jobs.iter().map(|job| JobLine::of(job, now)).collect(),
        }
    }
}

impl WorkerLine {
    fn of(listed: &Listed, now: Moment) -> Self {
        let Listed { id, worker, jobs } = listed;
        Self {
            id: id.to_string(),
            state: worker.state(*jobs),
            jobs: *jobs,
            silent: match worker.polls {
                0 => now.millis_since(worker.seen),
                _ => 0,
            },
        }
    }
}

impl JobLine {
    fn of(job: &Stored, now: Moment) -> Self {
        let record = &job.record;
        let runs = record.status == JobStatus::InProgress;
        let progress = job.output.as_ref().filter(|_| runs);
        Self {
            id: record.id.to_string(),
            status: record.status,
            age: now.millis_since(record.queued),
            delay_time: record.delay_ms(),
            execution_time: record.execution_ms(),
            running: record.taken.filter(|_| runs).map(|at| now.millis_since(at)),
            worker_id: record.worker.as_deref().map(ToOwned::to_owned),
            progress: progress
                .filter(|progress| progress.len() <= MOST_PROGRESS)
                .map(raw),
            chunks: record.chunks.count,
        }
    }
}
