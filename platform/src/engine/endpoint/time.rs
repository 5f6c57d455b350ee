//! What time asks of an endpoint.

use podwork_protocol::JobStatus;
use serde_json::json;
use tokio::time::Instant;

use super::super::job::Id;
use super::super::timers::Timer;
use super::Endpoint;

impl Endpoint {
    /// Does what is due.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Job(id) => self.expire_job(&id, now),
                Timer::Worker(id) => self.lose_worker(&id, now),
            }
        }
    }

    fn expire_job(&mut self, id: &Id, now: Instant) {
        let Some(job) = self.store.get(id) else {
            return;
        };
        let timed_out = job.status == JobStatus::InProgress && job.expires > now;
        if timed_out {
            let limit = job.execution_timeout.as_millis();
            if let Some(job) = self.store.get_mut(id) {
                job.error = Some(json!(format!(
                    "the job ran longer than its executionTimeout of {limit} ms"
                )));
            }
            self.end(id, JobStatus::TimedOut, now);
        } else {
            self.forget(id);
        }
    }

    /// A worker was not heard of for too long: what it held is for others.
    fn lose_worker(&mut self, worker_id: &str, now: Instant) {
        let Some(worker) = self.workers.remove(worker_id) else {
            return;
        };
        self.lose_jobs(worker.jobs, worker_id, now);
    }

    /// Jobs are not at their worker any more, or never were: they are for others, a bounded number of times.
    pub(super) fn lose_jobs(
        &mut self,
        jobs: impl IntoIterator<Item = Id>,
        worker_id: &str,
        now: Instant,
    ) {
        for id in jobs {
            let tries = self.store.get(&id).map_or(0, |job| job.tries);
            if tries < self.rules.tries {
                self.release(&id);
                self.requeue(&id, now, true);
                continue;
            }
            if let Some(job) = self.store.get_mut(&id) {
                job.error = Some(json!(format!(
                    "the job was lost with its worker {tries} times; the last was {worker_id}"
                )));
            }
            self.end(&id, JobStatus::Failed, now);
        }
    }

    pub(super) fn watch_worker(&mut self, worker_id: &str) {
        let timer = Timer::Worker(worker_id.into());
        match self.workers.get_mut(worker_id) {
            Some(worker) if worker.polls == 0 => {
                self.timers.set(timer, worker.seen + self.rules.silence);
            }
            _ => self.timers.clear(&timer),
        }
    }
}
