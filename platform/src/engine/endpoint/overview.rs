//! An endpoint at a glance, for its console.

use podwork_protocol::client::Health;
use podwork_protocol::{JobStatus, RawValue};
use serde::Serialize;
use tokio::time::Instant;

use super::super::job::Id;
use super::super::worker_table::WorkerLine;
use super::Endpoint;

/// Most jobs that are shown.
const MOST_JOBS: usize = 100;
/// A progress longer than this, in bytes, is not shown in the list.
const MOST_PROGRESS: usize = 1024;

/// What the console shows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Overview {
    health: Health,
    late_results: u64,
    workers: Vec<WorkerLine>,
    /// The last ones submitted, the newest first.
    jobs: Vec<JobLine>,
}

/// One job in the list; times are ms.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JobLine {
    id: String,
    status: JobStatus,
    /// Since it came into the queue.
    age: u64,
    delay_time: Option<u64>,
    execution_time: Option<u64>,
    /// Since it was taken, while it runs.
    running: Option<u64>,
    worker_id: Option<String>,
    progress: Option<Box<RawValue>>,
    chunks: usize,
}

impl Endpoint {
    /// Notes the id of a job that was just submitted.
    pub(super) fn remember(&mut self, id: &Id) {
        self.recent.truncate(MOST_JOBS - 1);
        self.recent.push_front(Id::clone(id));
    }

    pub(crate) fn overview(&self, now: Instant) -> Overview {
        let millis = |since: Instant| {
            let time = now.saturating_duration_since(since);
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        };
        let jobs = self.recent.iter().filter_map(|id| self.store.get(id));
        let jobs = jobs.map(|job| {
            let status = job.status_response();
            let runs = job.status == JobStatus::InProgress;
            let progress = status
                .output
                .filter(|progress| runs && progress.get().len() <= MOST_PROGRESS);
            JobLine {
                id: status.id,
                status: status.status,
                age: millis(job.queued),
                delay_time: status.delay_time,
                execution_time: status.execution_time,
                running: job.taken.filter(|_| runs).map(millis),
                worker_id: status.worker_id,
                progress,
                chunks: job.chunks.len(),
            }
        });
        Overview {
            health: self.health(),
            late_results: self.late_results,
            jobs: jobs.collect(),
            workers: self.workers.seen(millis),
        }
    }
}
