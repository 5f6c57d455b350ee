//! One endpoint: its queue, its jobs, its workers, and every rule between them.

mod client_calls;
mod overview;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
mod time;
mod worker_calls;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use podwork_protocol::client::JobCounts;
use podwork_protocol::{JobStatus, RawValue};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::job::Id;
use super::store::{Memory, Store};
use super::timers::{Timer, Timers};
use super::worker_table::Workers;
use crate::rules::Rules;

pub(crate) use overview::Overview;

/// A job to be run.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) id: Id,
    pub(crate) input: Box<RawValue>,
    pub(crate) extra: Map<String, Value>,
    pub(crate) execution_timeout: Duration,
    pub(crate) ttl: Duration,
    pub(crate) retention: Duration,
    /// Called once the job has ended.
    pub(crate) webhook: Option<String>,
}

/// What others are to be told of after a change.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Jobs that look different now.
    pub(crate) jobs: Vec<Id>,
    /// How many jobs came into the queue.
    pub(crate) queued: usize,
    /// Some worker has a job to stop.
    pub(crate) stops: bool,
    /// Jobs that have ended, and who is to be called about it.
    pub(crate) webhooks: Vec<(Id, String)>,
}

/// The state machine. Every change is noted in `changes` until somebody takes them.
#[derive(Debug)]
pub(crate) struct Endpoint {
    rules: Arc<Rules>,
    store: Box<dyn Store>,
    workers: Workers,
    timers: Timers,
    counts: JobCounts,
    /// Results that came again, or too late to count.
    late_results: u64,
    /// Ids of the last jobs submitted, the newest first.
    recent: VecDeque<Id>,
    changes: Changes,
}

impl Endpoint {
    pub(crate) fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            store: Box::<Memory>::default(),
            workers: Workers::default(),
            timers: Timers::default(),
            counts: JobCounts::default(),
            late_results: 0,
            recent: VecDeque::new(),
            changes: Changes::default(),
        }
    }

    /// What has changed since this was last asked.
    pub(crate) fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    // Steps that the others share.

    /// The worker that runs the job now.
    fn holder(&self, id: &str) -> Option<&Id> {
        let job = self.store.get(id)?;
        (job.status == JobStatus::InProgress).then_some(job.worker.as_ref())?
    }

    /// The job, where this worker runs it now.
    fn held_by(&self, worker_id: &str, id: &str) -> Option<Id> {
        let job = self.store.get(id)?;
        let runs = job.status == JobStatus::InProgress && job.worker.as_deref() == Some(worker_id);
        runs.then(|| Id::clone(&job.id))
    }

    /// Takes a running job from its worker; whether it was at one.
    fn release(&mut self, id: &str) -> bool {
        let Some(worker_id) = self.holder(id).cloned() else {
            return false;
        };
        self.counts.in_progress -= 1;
        if let Some(worker) = self.workers.get_mut(&worker_id) {
            worker.jobs.remove(id);
        }
        true
    }

    /// Takes a running job from its worker and has the worker stop it.
    fn stop(&mut self, id: &Id) {
        let Some(worker_id) = self.holder(id).cloned() else {
            return;
        };
        self.release(id);
        if let Some(worker) = self.workers.get_mut(&worker_id) {
            worker.stops.insert(Id::clone(id));
            self.changes.stops = true;
        }
    }

    /// Ends a job that has not ended.
    fn end(&mut self, id: &Id, status: JobStatus, now: Instant) {
        if matches!(status, JobStatus::Completed | JobStatus::Failed) {
            self.release(id);
        } else {
            self.stop(id);
        }
        self.store.unqueue(id);
        let Some(job) = self.store.get_mut(id) else {
            return;
        };
        if !matches!(status, JobStatus::Completed | JobStatus::Failed) {
            // What was shown so far was progress, not a result.
            job.output = None;
        }
        job.status = status;
        job.ended = Some(now);
        let webhook = job.webhook.clone();
        self.changes
            .webhooks
            .extend(webhook.map(|url| (Id::clone(id), url)));
        self.timers.set(Timer::Job(Id::clone(id)), job.deadline());
        match status {
            JobStatus::Completed => self.counts.completed += 1,
            JobStatus::Failed | JobStatus::TimedOut => self.counts.failed += 1,
            _ => {}
        }
        self.changes.jobs.push(Id::clone(id));
    }

    /// Puts a job that is at no worker back into the queue: first, when it was there before its time.
    fn requeue(&mut self, id: &Id, now: Instant, first: bool) {
        let Some(job) = self.store.get_mut(id) else {
            return;
        };
        job.requeue(now);
        self.timers.set(Timer::Job(Id::clone(id)), job.deadline());
        if first {
            self.store.push_front(id);
        } else {
            self.store.push(id);
        }
        self.counts.retried += 1;
        self.changes.queued += 1;
        self.changes.jobs.push(Id::clone(id));
    }

    fn forget(&mut self, id: &Id) {
        self.stop(id);
        self.store.remove(id);
        self.timers.clear(&Timer::Job(Id::clone(id)));
        self.changes.jobs.push(Id::clone(id));
    }
}
