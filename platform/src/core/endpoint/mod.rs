//! One endpoint: its queue, its jobs, its workers, and every rule between them.

mod clients;
mod overview;
#[cfg(test)]
mod tests;
mod time;
mod workers;

use std::collections::VecDeque;
use std::time::Duration;

use podwork_protocol::client::JobCounts;
use podwork_protocol::{JobStatus, RawValue};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::store::{Memory, Store};
use super::timers::{Timer, Timers};
use super::workers::Workers;
use crate::settings::Settings;

pub(crate) use overview::Overview;

/// A job to be run.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) id: String,
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
    pub(crate) jobs: Vec<String>,
    /// How many jobs came into the queue.
    pub(crate) queued: usize,
    /// Some worker has a job to stop.
    pub(crate) stops: bool,
    /// Jobs that have ended, and who is to be called about it.
    pub(crate) webhooks: Vec<(String, String)>,
}

/// The state machine. Every change is noted in `changes` until somebody takes them.
#[derive(Debug)]
pub(crate) struct Endpoint {
    settings: Settings,
    store: Box<dyn Store>,
    workers: Workers,
    timers: Timers,
    counts: JobCounts,
    /// Ids of the last jobs submitted, the newest first.
    recent: VecDeque<String>,
    changes: Changes,
}

impl Endpoint {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            store: Box::<Memory>::default(),
            workers: Workers::default(),
            timers: Timers::default(),
            counts: JobCounts::default(),
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
    fn holder(&self, id: &str) -> Option<&str> {
        let job = self.store.get(id)?;
        (job.status == JobStatus::InProgress).then_some(job.worker.as_deref())?
    }

    /// Takes a running job from its worker; whether it was at one.
    fn release(&mut self, id: &str) -> bool {
        let Some(worker_id) = self.holder(id).map(ToOwned::to_owned) else {
            return false;
        };
        self.counts.in_progress -= 1;
        if let Some(worker) = self.workers.get_mut(&worker_id) {
            worker.jobs.remove(id);
        }
        true
    }

    /// Takes a running job from its worker and has the worker stop it.
    fn stop(&mut self, id: &str) {
        let Some(worker_id) = self.holder(id).map(ToOwned::to_owned) else {
            return;
        };
        self.release(id);
        if let Some(worker) = self.workers.get_mut(&worker_id) {
            worker.stops.insert(id.to_owned());
            self.changes.stops = true;
        }
    }

    /// Ends a job that has not ended.
    fn end(&mut self, id: &str, status: JobStatus, now: Instant) {
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
            .extend(webhook.map(|url| (id.to_owned(), url)));
        self.timers.set(Timer::Job(id.to_owned()), job.deadline());
        match status {
            JobStatus::Completed => self.counts.completed += 1,
            JobStatus::Failed | JobStatus::TimedOut => self.counts.failed += 1,
            _ => {}
        }
        self.changes.jobs.push(id.to_owned());
    }

    /// Puts a job that is at no worker back into the queue: first, when it was there before its time.
    fn requeue(&mut self, id: &str, now: Instant, first: bool) {
        let Some(job) = self.store.get_mut(id) else {
            return;
        };
        job.requeue(now);
        self.timers.set(Timer::Job(id.to_owned()), job.deadline());
        if first {
            self.store.push_front(id);
        } else {
            self.store.push(id);
        }
        self.counts.retried += 1;
        self.changes.queued += 1;
        self.changes.jobs.push(id.to_owned());
    }

    fn forget(&mut self, id: &str) {
        self.stop(id);
        self.store.remove(id);
        self.timers.clear(&Timer::Job(id.to_owned()));
        self.changes.jobs.push(id.to_owned());
    }
}
