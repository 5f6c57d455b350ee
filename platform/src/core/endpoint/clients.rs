//! What clients ask of an endpoint.

use std::time::Duration;

use podwork_protocol::JobStatus;
use podwork_protocol::client::{
    Health, JobCounts, JobState, PurgeResponse, StatusResponse, StreamResponse,
};
use tokio::time::Instant;

use super::super::job::{Chunks, Id, Job, Refusal};
use super::super::timers::Timer;
use super::{Endpoint, Submission};

impl Endpoint {
    pub(crate) fn submit(
        &mut self,
        submission: Submission,
        now: Instant,
    ) -> Result<JobState, Refusal> {
        if self.store.len() >= self.rules.jobs {
            return Err(Refusal::Full(format!(
                "the endpoint holds {} jobs and takes no more",
                self.store.len()
            )));
        }
        if self.store.get(&submission.id).is_some() {
            return Err(Refusal::Conflict(format!(
                "job {} is here already",
                submission.id
            )));
        }
        let job = Job {
            id: submission.id,
            input: submission.input,
            extra: submission.extra,
            execution_timeout: submission.execution_timeout,
            expires: now + submission.ttl,
            retention: submission.retention,
            webhook: submission.webhook,
            status: JobStatus::InQueue,
            place: 0,
            queued: now,
            taken: None,
            ended: None,
            named: now,
            worker: None,
            tries: 0,
            output: None,
            error: None,
            progress: 0,
            chunks: Chunks::default(),
        };
        let state = job.state();
        self.timers
            .set(Timer::Job(Id::clone(&job.id)), job.deadline());
        self.remember(&job.id);
        self.changes.queued += 1;
        self.changes.jobs.push(Id::clone(&job.id));
        self.store.insert(job);
        Ok(state)
    }

    pub(crate) fn job(&self, id: &str) -> Result<&Job, Refusal> {
        self.store.get(id).ok_or_else(|| {
            Refusal::NotFound(format!(
                "job {id} is not here: it never was, or its result has expired"
            ))
        })
    }

    pub(crate) fn status(&self, id: &str) -> Result<StatusResponse, Refusal> {
        Ok(self.job(id)?.status_response())
    }

    /// Shortens the life of a job, which ends `ttl` from now at the latest.
    pub(crate) fn shorten(&mut self, id: &str, ttl: Duration, now: Instant) {
        if let Some(job) = self.store.get_mut(id) {
            job.expires = job.expires.min(now + ttl);
            self.timers
                .set(Timer::Job(Id::clone(&job.id)), job.deadline());
        }
    }

    /// The chunks that were not handed out yet, if there are any, or if the job has ended; with the mark to go back to
    /// when the answer does not reach the client.
    pub(crate) fn stream(
        &mut self,
        id: &str,
        even_empty: bool,
    ) -> Result<Option<(StreamResponse, usize)>, Refusal> {
        let job = self.job(id)?;
        let from = job.chunks.handed_out();
        if from == job.chunks.len() && !job.status.is_final() && !even_empty {
            return Ok(None);
        }
        let response = job.stream_response(from);
        if let Some(job) = self.store.get_mut(id) {
            job.chunks.set_handed_out(usize::MAX);
        }
        Ok(Some((response, from)))
    }

    /// The answer with the chunks from `mark` on never reached the client.
    pub(crate) fn unstream(&mut self, id: &str, mark: usize) {
        if let Some(job) = self.store.get_mut(id) {
            job.chunks.set_handed_out(mark.min(job.chunks.handed_out()));
            self.changes.jobs.push(Id::clone(&job.id));
        }
    }

    pub(crate) fn cancel(&mut self, id: &str, now: Instant) -> Result<JobState, Refusal> {
        let job = self.job(id)?;
        if !job.status.is_final() {
            self.end(&Id::clone(&job.id), JobStatus::Cancelled, now);
        }
        Ok(self.job(id)?.state())
    }

    pub(crate) fn retry(&mut self, id: &str, now: Instant) -> Result<JobState, Refusal> {
        let job = self.job(id)?;
        let (status, id) = (job.status, &Id::clone(&job.id));
        if !matches!(status, JobStatus::Failed | JobStatus::TimedOut) {
            return Err(Refusal::Bad(format!(
                "job {id} is {status}, and only a job that is FAILED or TIMED_OUT can be retried"
            )));
        }
        if let Some(job) = self.store.get_mut(id) {
            job.tries = 0;
        }
        self.requeue(id, now, false);
        Ok(self.job(id)?.state())
    }

    pub(crate) fn purge(&mut self) -> PurgeResponse {
        let mut removed = 0;
        while let Some(id) = self.store.pop() {
            self.forget(&id);
            removed += 1;
        }
        PurgeResponse::new(removed)
    }

    /// Results that came again, or after their job had ended or gone to another worker.
    pub(crate) fn late_results(&self) -> u64 {
        self.late_results
    }

    pub(crate) fn health(&self) -> Health {
        let mut jobs = self.counts;
        jobs.in_queue = self.store.waiting() as u64;
        Health::new(jobs, self.workers.counts())
    }
}
