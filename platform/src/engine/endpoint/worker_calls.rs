//! What workers ask of an endpoint.

use podwork_protocol::worker::{self, Post};
use podwork_protocol::{JobStatus, RawValue};
use tokio::time::Instant;
use tracing::trace;

use super::super::job::{Id, Refusal};
use super::super::timers::Timer;
use super::super::worker_table::Stance;
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
            worker.stance = Stance::Ready;
            worker.unhealthy = false;
        }
        self.watch_worker(worker_id);
        Ok(())
    }

    /// Whether a worker may be given jobs: only so many are at once.
    pub(crate) fn admit(&mut self, worker_id: &str, now: Instant) -> Result<(), Refusal> {
        let most = self.rules.workers;
        if most == usize::MAX || self.workers.others_ready(worker_id) < most {
            return Ok(());
        }
        if let Some(worker) = self.workers.heard(worker_id, now) {
            worker.stance = Stance::Throttled;
            self.watch_worker(worker_id);
        }
        Err(Refusal::Full(format!(
            "this endpoint gives jobs to {most} workers at once, and has them: worker {worker_id} is throttled"
        )))
    }

    /// … and it has ended, however it did.
    pub(crate) fn poll_closed(&mut self, worker_id: &str, now: Instant) {
        if let Some(worker) = self.workers.get_mut(worker_id) {
            worker.polls = worker.polls.saturating_sub(1);
            worker.seen = now;
            self.watch_worker(worker_id);
            self.let_go(worker_id);
        }
    }

    /// Notes that a known worker has shown itself. What comes late, of one that is lost, makes it no worker again.
    fn saw(&mut self, worker_id: &str, now: Instant) {
        if let Some(worker) = self.workers.get_mut(worker_id) {
            worker.seen = now;
            self.watch_worker(worker_id);
        }
    }

    /// Forgets a worker that leaves, once nothing of it is left here.
    fn let_go(&mut self, worker_id: &str) {
        let worker = self.workers.get_mut(worker_id);
        if worker.is_some_and(|worker| {
            worker.stance == Stance::Leaving && worker.polls == 0 && worker.jobs.is_empty()
        }) {
            self.workers.remove(worker_id);
            self.timers.clear(&Timer::Worker(worker_id.into()));
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
        let taker: Id = worker_id.into();
        while handed_out.len() < wanted {
            let Some(id) = self.store.pop() else { break };
            let Some(job) = self.store.get_mut(&id) else {
                continue;
            };
            job.status = JobStatus::InProgress;
            job.taken = Some(now);
            job.named = now;
            job.worker = Some(Id::clone(&taker));
            job.tries += 1;
            handed_out.push(job.hand_out());
            trace!(target: JOB_EVENTS, job_id = &*id, status = job.status.as_str(), "handed out");
            self.timers.set(Timer::Job(Id::clone(&id)), job.deadline());
            if let Some(worker) = self.workers.heard(worker_id, now) {
                worker.stops.remove(&id);
                worker.jobs.insert(Id::clone(&id));
            }
            self.counts.in_progress += 1;
            self.changes.jobs.push(id);
        }
        if !handed_out.is_empty() {
            self.watch_worker(worker_id);
        }
        // Wake-ups may have met in one permit: who takes tells the next.
        self.changes.queued += self.store.waiting().min(1);
        handed_out
    }

    /// Jobs that were handed out did not reach the worker: they wait again, first in the queue, as if nothing had been.
    pub(crate) fn give_back(&mut self, worker_id: &str, ids: &[String]) {
        for id in ids.iter().rev() {
            let Some(id) = &self.held_by(worker_id, id) else {
                continue;
            };
            self.release(id);
            if let Some(job) = self.store.get_mut(id) {
                job.status = JobStatus::InQueue;
                job.tries = job.tries.saturating_sub(1);
                (job.taken, job.worker) = (None, None);
                self.timers.set(Timer::Job(Id::clone(id)), job.deadline());
                self.store.push_front(id);
                self.changes.queued += 1;
                self.changes.jobs.push(Id::clone(id));
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
        self.saw(worker_id, now);
        let progress = post.status.as_deref() == Some(JobStatus::InProgress.as_str());
        let Some(id) = self.held_by(worker_id, id) else {
            self.late_results += u64::from(!progress);
            let job = self.job(id)?;
            if job.worker.as_deref() == Some(worker_id) && job.status.is_final() {
                // It comes late, or again: nothing to do, and nothing for the worker to try again.
                return Ok(());
            }
            return Err(not_yours(id, worker_id));
        };
        let id = &id;
        if progress {
            if let Some(job) = self.store.get_mut(id) {
                job.output = post.output;
                job.progress += 1;
                job.named = now;
            }
            self.changes.jobs.push(Id::clone(id));
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
        trace!(target: JOB_EVENTS, job_id = &**id, status = status.as_str(), "result accepted");
        if post.stop_pod
            && let Some(worker) = self.workers.get_mut(worker_id)
        {
            worker.stance = Stance::Leaving;
        }
        self.let_go(worker_id);
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
        self.saw(worker_id, now);
        self.job(id)?;
        let id = &self
            .held_by(worker_id, id)
            .ok_or_else(|| not_yours(id, worker_id))?;
        if chunk.get().len() > self.rules.chunk {
            return Err(Refusal::TooLarge(format!(
                "the chunk is {} bytes, and {} is the limit",
                chunk.get().len(),
                self.rules.chunk
            )));
        }
        if let Some(job) = self.store.get_mut(id) {
            job.named = now;
            job.chunks.push(chunk, key, self.rules.stream_buffer)?;
        }
        self.changes.jobs.push(Id::clone(id));
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
                strays.push(Id::from(id));
            } else if let Some(job) = self.store.get_mut(id) {
                job.named = now;
            }
        }
        if let Some(worker) = self.workers.heard(worker_id, now) {
            worker.unhealthy = unhealthy;
            self.changes.stops |= !strays.is_empty();
            worker.stops.extend(strays);
            let own: Vec<Id> = worker.jobs.iter().cloned().collect();
            self.watch_worker(worker_id);
            let silence = self.rules.silence;
            let unnamed = |id: &Id| {
                self.store
                    .get(id)
                    .is_some_and(|job| job.named + silence <= now)
            };
            let lost: Vec<Id> = own.into_iter().filter(unnamed).collect();
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
            let ids = std::mem::take(&mut worker.stops).into_iter();
            ids.map(|id| id.to_string()).collect()
        })
    }

    pub(crate) fn unstop(&mut self, worker_id: &str, ids: Vec<String>) {
        if let Some(worker) = self.workers.get_mut(worker_id) {
            worker.stops.extend(ids.into_iter().map(Id::from));
            self.changes.stops = true;
        }
    }
}

fn not_yours(id: &str, worker_id: &str) -> Refusal {
    Refusal::Conflict(format!("job {id} is not at worker {worker_id} any more"))
}
