//! The calls of clients.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use podwork_protocol::client::{Health, JobState, PurgeResponse, WorkerCounts};

use super::Endpoint;
use crate::engine::{ReadMark, Record, Refusal, Submission, WorkerState, step};
use crate::store::{Commit, Payload, Store, Stored, Wanted};

/// The number of jobs that a purge reads from the queue at once.
const PURGED_AT_ONCE: usize = 100;

impl<S: Store> Endpoint<S> {
    pub(crate) async fn submit(&self, submission: Submission) -> Result<JobState, Refusal> {
        let (jobs, _) = self.store.counts().await;
        if jobs >= self.rules.jobs {
            return Err(Refusal::Full(format!(
                "the endpoint is full: it holds {jobs} jobs; retry later"
            )));
        }
        let job = Record {
            nonce: fastrand::u64(..),
            ..step::submit(&submission, self.store.now())
        };
        let state = job.state();
        let commit = Commit {
            before: None,
            after: Some(Arc::new(job)),
            payload: Payload::Job {
                input: submission.input,
                extra: submission.extra,
            },
        };
        let committed = self.store.commit(commit).await;
        committed
            .map_err(|_| Refusal::Conflict(format!("job id {} already exists", submission.id)))?;
        Ok(state)
    }

    /// Shortens the ttl of a job, if it exists.
    pub(crate) async fn shorten(&self, id: &str, ttl: Duration) {
        let now = self.store.now();
        let shortened = self.step(id, Payload::None, |job| Ok(step::shorten(job, now, ttl)));
        // If the job does not exist, the caller's next read of it returns the error.
        let _ = shortened.await;
    }

    /// Returns a job with the chunks that `/stream` has not delivered. Returns `None` if there are no such chunks and
    /// the job has not ended, unless `even_empty` is set.
    pub(crate) async fn unread(
        &self,
        id: &str,
        even_empty: bool,
    ) -> Result<Option<Stored>, Refusal> {
        let job = self.job(id, Wanted::Unread).await?;
        let has_news = !job.chunks.is_empty() || job.record.status.is_final();
        Ok((has_news || even_empty).then_some(job))
    }

    /// Records that a client has received the chunks of this result of [`unread`](Self::unread).
    pub(crate) async fn mark_read(&self, answer: &Stored) {
        let mark = ReadMark {
            requeues: answer.record.requeues,
            from: answer.record.chunks.read,
            chunks: &answer.chunks,
        };
        let id = &answer.record.id;
        // A refusal means that another client received them as well, or that the job was requeued.
        let _ = self
            .step(id, Payload::None, |job| step::read(job, &mark))
            .await;
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<JobState, Refusal> {
        let now = self.store.now();
        let cancelled = self
            .step(id, Payload::None, |job| step::cancel(job, now))
            .await;
        match cancelled {
            // The job has already ended and does not change.
            Err(Refusal::Conflict(_)) => Ok(self.record(id).await?.state()),
            cancelled => Ok(cancelled?.state()),
        }
    }

    pub(crate) async fn retry(&self, id: &str) -> Result<JobState, Refusal> {
        let now = self.store.now();
        let retried = self.step(id, Payload::None, |job| step::retry(job, now));
        Ok(retried.await?.state())
    }

    pub(crate) async fn purge(&self) -> PurgeResponse {
        let mut removed = 0;
        // The count bounds the loop, so that it does not chase jobs submitted meanwhile.
        let (_, counts) = self.store.counts().await;
        while removed < counts.in_queue {
            let waiting = self.store.front(PURGED_AT_ONCE).await;
            if waiting.is_empty() {
                break;
            }
            for job in waiting {
                let gone = self.remove(&job.record.id, step::purge).await;
                removed += u64::from(gone.is_ok());
            }
            tokio::task::coop::consume_budget().await;
        }
        PurgeResponse::new(removed)
    }

    /// Returns the number of results posted again, or after the job ended or was handed out to another worker.
    pub(crate) fn late_results(&self) -> u64 {
        self.late_results.load(Ordering::Relaxed)
    }

    pub(crate) async fn health(&self) -> Health {
        let (_, jobs) = self.store.counts().await;
        let mut workers = WorkerCounts::default();
        for listed in self.store.workers().await {
            match listed.worker.state(listed.jobs) {
                WorkerState::Unhealthy => workers.unhealthy += 1,
                WorkerState::Running => workers.running += 1,
                WorkerState::Idle => workers.idle += 1,
                WorkerState::Throttled => workers.throttled += 1,
                WorkerState::Leaving => {}
                WorkerState::Initializing => workers.initializing += 1,
            }
        }
        workers.ready = workers.idle + workers.running;
        Health::new(jobs, workers)
    }
}
