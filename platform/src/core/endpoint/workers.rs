//! What workers ask of an endpoint.

use podwork_protocol::worker::{self, Post};
use podwork_protocol::{JobStatus, RawValue};
use tokio::time::Instant;
use tracing::trace;

use super::super::job::Refusal;
use super::super::timers::Timer;
use super::Endpoint;

/// Where a job's way is told: who measures listens to this alone, at the very moment.
const JOB_EVENTS: &str = "podwork_platform::job";

impl Endpoint {
    /// A worker has opened a take or stop poll.
    pub(crate) fn poll_opened(
        &mut self,
        worker_id: &str,
        takes: bool,
        now: Instant,
    ) -> Result<(), Refusal> {
        let Some(worker) = self.workers.heard(worker_id, now) else {
            return Err(Refusal::Full("there are too many workers".to_owned()));
        };
        worker.polls += 1;
        if takes {
            worker.ready = true;
            worker.unhealthy = false;
        }
        self.watch_worker(worker_id);
        Ok(())
    }

    /// … and it has ended, however it did.
    pub(crate) fn poll_closed(&mut self, worker_id: &str, now: Instant) {
        if let Some(worker) = self.workers.get_mut(worker_id) {
            worker.polls = worker.polls.saturating_sub(1);
            worker.seen = now;
            self.watch_worker(worker_id);
        }
    }

    /// Hands out up to `wanted` jobs.
    pub(crate) fn take(
        &mut self,
        worker_id: &str,
        wanted: usize,
        now: Instant,
    ) -> Vec<worker::Job> {
        let mut handed_out = Vec::new();
        while handed_out.len() < wanted {
            let Some(id) = self.store.pop() else { break };
            let Some(job) = self.store.get_mut(&id) else {
                continue;
            };
            job.status = JobStatus::InProgress;
            job.taken = Some(now);
            job.named = now;
            job.worker = Some(worker_id.to_owned());
            job.tries += 1;
            handed_out.push(job.hand_out());
            trace!(target: JOB_EVENTS, job_id = id, status = job.status.as_str(), "handed out");
            self.timers.set(Timer::Job(id.clone()), job.deadline());
            if let Some(worker) = self.workers.heard(worker_id, now) {
                worker.jobs.insert(id.clone());
                worker.stops.remove(&id);
            }
            self.counts.in_progress += 1;
            self.changes.jobs.push(id);
        }
        // Wake-ups may have met in one permit: who takes tells the next.
        self.changes.queued += self.store.waiting().min(1);
        handed_out
    }

    /// Jobs that were handed out did not reach the worker: they wait again, first in the queue, as if nothing had been.
    pub(crate) fn give_back(&mut self, worker_id: &str, ids: &[String]) {
        for id in ids.iter().rev() {
            if self.holder(id) != Some(worker_id) {
                continue;
            }
            self.release(id);
            if let Some(job) = self.store.get_mut(id) {
                job.status = JobStatus::InQueue;
                job.tries = job.tries.saturating_sub(1);
                (job.taken, job.worker) = (None, None);
                self.timers.set(Timer::Job(id.clone()), job.deadline());
                self.store.push_front(id);
                self.changes.queued += 1;
                self.changes.jobs.push(id.clone());
            }
        }
    }

    /// A worker's post about a job's result: its end, or how far it is.
    pub(crate) fn post(
        &mut self,
        worker_id: &str,
        id: &str,
        post: Post,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.workers.heard(worker_id, now);
        let job = self.job(id)?;
        let own = job.worker.as_deref() == Some(worker_id);
        if own && job.status.is_final() {
            // It comes late, or again: nothing to do, and nothing for the worker to try again.
            return Ok(());
        }
        if !own || job.status != JobStatus::InProgress {
            return Err(not_yours(id, worker_id));
        }
        if post.status.as_deref() == Some(JobStatus::InProgress.as_str()) {
            if let Some(job) = self.store.get_mut(id) {
                job.output = post.output;
                job.progress += 1;
                job.named = now;
            }
            self.changes.jobs.push(id.to_owned());
            return Ok(());
        }
        let error = post.error.filter(|error| !error.is_null());
        let status = if error.is_some() {
            JobStatus::Failed
        } else {
            JobStatus::Completed
        };
        if let Some(job) = self.store.get_mut(id) {
            job.output = post.output;
            job.error = error;
        }
        self.end(id, status, now);
        trace!(target: JOB_EVENTS, job_id = id, status = status.as_str(), "result accepted");
        if post.stop_pod {
            self.workers.remove(worker_id);
            self.timers.clear(&Timer::Worker(worker_id.to_owned()));
        }
        Ok(())
    }

    /// One chunk of a job's stream; `key` tells one that comes again.
    pub(crate) fn chunk(
        &mut self,
        worker_id: &str,
        id: &str,
        chunk: Box<RawValue>,
        key: Option<&str>,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.workers.heard(worker_id, now);
        if self.job(id)?.status != JobStatus::InProgress || self.holder(id) != Some(worker_id) {
            return Err(not_yours(id, worker_id));
        }
        if chunk.get().len() > self.settings.chunk {
            return Err(Refusal::TooLarge(format!(
                "the chunk is {} bytes, and {} is the limit",
                chunk.get().len(),
                self.settings.chunk
            )));
        }
        if let Some(job) = self.store.get_mut(id) {
            job.named = now;
            job.chunks.push(chunk, key, self.settings.stream_buffer)?;
        }
        self.changes.jobs.push(id.to_owned());
        Ok(())
    }

    /// A heartbeat, with the ids of the jobs that the worker believes it runs. Those that are not its own any more it
    /// is told to stop, again if need be: the official worker passes over a stop that comes before it has started the
    /// job. And those of its own that it has not named for as long as it may be silent never reached it: they are for
    /// others.
    pub(crate) fn ping<'a>(
        &mut self,
        worker_id: &str,
        running: impl IntoIterator<Item = &'a str>,
        unhealthy: bool,
        now: Instant,
    ) {
        let mut strays = Vec::new();
        for id in running {
            if self.is_stray(worker_id, id) {
                strays.push(id.to_owned());
            } else if let Some(job) = self.store.get_mut(id) {
                job.named = now;
            }
        }
        if let Some(worker) = self.workers.heard(worker_id, now) {
            worker.unhealthy = unhealthy;
            self.changes.stops |= !strays.is_empty();
            worker.stops.extend(strays);
            let own: Vec<String> = worker.jobs.iter().cloned().collect();
            self.watch_worker(worker_id);
            let silence = self.settings.silence;
            let unnamed = |id: &String| {
                self.store
                    .get(id)
                    .is_some_and(|job| job.named + silence <= now)
            };
            let lost: Vec<String> = own.into_iter().filter(unnamed).collect();
            self.lose_jobs(lost, worker_id, now);
        }
    }

    /// Whether a job that this worker believes it runs is for it to stop. One that has just come to its own end is not:
    /// the worker knows, or is about to.
    fn is_stray(&self, worker_id: &str, id: &str) -> bool {
        self.store.get(id).is_none_or(|job| match job.status {
            JobStatus::Completed | JobStatus::Failed => false,
            JobStatus::InProgress => job.worker.as_deref() != Some(worker_id),
            JobStatus::InQueue | JobStatus::Cancelled | JobStatus::TimedOut => true,
        })
    }

    /// The jobs this worker is to stop, taken out; an answer that does not reach it puts them back by
    /// [`unstop`](Self::unstop).
    pub(crate) fn stops(&mut self, worker_id: &str) -> Vec<String> {
        let worker = self.workers.get_mut(worker_id);
        worker.map_or_else(Vec::new, |worker| {
            std::mem::take(&mut worker.stops).into_iter().collect()
        })
    }

    pub(crate) fn unstop(&mut self, worker_id: &str, ids: Vec<String>) {
        if let Some(worker) = self.workers.get_mut(worker_id) {
            worker.stops.extend(ids);
            self.changes.stops = true;
        }
    }
}

fn not_yours(id: &str, worker_id: &str) -> Refusal {
    Refusal::Conflict(format!("job {id} is not at worker {worker_id} any more"))
}
