//! The calls of workers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tracing::trace;

use super::Endpoint;
use crate::engine::{Id, JobEnd, LostWorker, NewChunk, Refusal, Stance, WorkerRecord, step};
use crate::store::{Payload, Store, Stored, Wanted};

/// The tracing target of job events. A benchmark subscribes to this target only, to time each event as it happens.
const JOB_EVENTS: &str = "podwork_platform::job";

/// A worker's post to `/job-done`: the result of a job, or its progress.
#[derive(Debug)]
pub(crate) struct NewResult {
    pub(crate) is_progress: bool,
    pub(crate) output: Option<Bytes>,
    /// The error of a failed job, as JSON text.
    pub(crate) error: Option<Arc<str>>,
    /// Set if the worker asks to be replaced.
    pub(crate) stop_pod: bool,
}

impl<S: Store> Endpoint<S> {
    /// Records that a worker opened a take poll (`takes`) or a stop poll.
    pub(crate) async fn poll_opened(&self, worker_id: &str, takes: bool) -> Result<(), Refusal> {
        let opened = self.worker_step(worker_id, |worker, heard| {
            Some(WorkerRecord::opens_poll(worker, heard, takes))
        });
        match opened.await {
            Some(_) => Ok(()),
            None => Err(Refusal::Full("too many workers: retry later".to_owned())),
        }
    }

    /// Records that a poll of a worker ended, for whatever reason.
    pub(crate) async fn poll_closed(&self, worker_id: &str) {
        let worker = self
            .worker_step(worker_id, |worker, heard| Some(worker?.closes_poll(heard)))
            .await;
        self.let_go(worker_id, worker).await;
    }

    /// Rejects and throttles a worker if the worker limit is reached.
    pub(crate) async fn admit(&self, worker_id: &str) -> Result<(), Refusal> {
        let most = self.rules.workers;
        if most == usize::MAX {
            return Ok(());
        }
        let workers = self.store.workers().await;
        let others = workers.iter().filter(|other| *other.id != *worker_id);
        let ready = others.filter(|other| other.worker.stance == Stance::Ready);
        if ready.count() < most {
            return Ok(());
        }
        self.worker_step(worker_id, |worker, heard| {
            Some(WorkerRecord {
                stance: Stance::Throttled,
                ..WorkerRecord::heard(worker, heard)
            })
        })
        .await;
        Err(Refusal::Full(format!(
            "worker {worker_id} is throttled: the limit of {most} workers of this endpoint is reached"
        )))
    }

    /// Records a call of a known worker. A late call of a lost worker does not add it again.
    async fn saw(&self, worker_id: &str) -> Option<WorkerRecord> {
        self.worker_step(worker_id, |worker, heard| {
            worker.map(|worker| WorkerRecord::heard(Some(worker), heard))
        })
        .await
    }

    /// Removes a leaving worker once it has no poll and no job left.
    async fn let_go(&self, worker_id: &str, worker: Option<WorkerRecord>) {
        if worker.is_none_or(|worker| worker.stance != Stance::Leaving) {
            return;
        }
        if let Some(known) = self.store.worker(worker_id).await
            && known.worker.has_left(known.jobs)
        {
            // A conflict means that the worker made another call.
            let _ = self
                .store
                .commit_worker(&known.id, Some(known.worker), None)
                .await;
        }
    }

    /// Hands out up to `wanted` jobs.
    pub(crate) async fn take(&self, worker_id: &str, wanted: usize) -> Vec<Stored> {
        let worker = Id::from(worker_id);
        let mut taken = Vec::new();
        while taken.len() < wanted {
            let waiting = self.store.front(wanted - taken.len()).await;
            // The worker's record must exist before it can hold jobs.
            let heard = |known, heard| Some(WorkerRecord::heard(known, heard));
            if waiting.is_empty() || self.worker_step(worker_id, heard).await.is_none() {
                break;
            }
            for job in waiting {
                let now = self.store.now();
                let Ok(after) = step::hand_out(&job.record, now, &worker) else {
                    continue;
                };
                // A conflict means that another take was faster.
                let before = Arc::clone(&job.record);
                if let Ok(record) = self.commit(before, after, Payload::None).await {
                    trace!(target: JOB_EVENTS, job_id = &*record.id, status = record.status.as_str(), "Handed out.");
                    taken.push(Stored { record, ..job });
                }
            }
        }
        taken
    }

    /// Returns jobs that did not reach the worker to the front of the queue, as if they had not been handed out.
    pub(crate) async fn give_back(&self, worker_id: &str, ids: &[Id]) {
        for id in ids.iter().rev() {
            // A refusal means that the worker no longer holds the job.
            let _ = self
                .step(id, Payload::None, |job| step::give_back(job, worker_id))
                .await;
        }
    }

    /// Accepts a worker's post with the result of a job, or with its progress.
    pub(crate) async fn post(
        &self,
        worker_id: &str,
        id: &str,
        result: NewResult,
    ) -> Result<(), Refusal> {
        let mut worker = self.saw(worker_id).await;
        let now = self.store.now();
        let has_output = result.output.is_some();
        let payload = result.output.map_or(Payload::None, Payload::Output);
        if result.is_progress {
            let progress = self.step(id, payload, |job| {
                step::progress(job, now, worker_id, has_output)
            });
            return self
                .accept_late(worker_id, id, progress.await)
                .await
                .map(|_| ());
        }
        let outcome = JobEnd {
            worker_id,
            has_output,
            error: result.error,
        };
        let finished = self
            .step(id, payload, |job| step::finish(job, now, &outcome))
            .await;
        if finished.is_err() {
            self.late_results.fetch_add(1, Ordering::Relaxed);
        }
        let Some(job) = self.accept_late(worker_id, id, finished).await? else {
            return Ok(());
        };
        trace!(target: JOB_EVENTS, job_id = &*job.id, status = job.status.as_str(), "Result accepted.");
        if result.stop_pod {
            let leaves = |worker: Option<WorkerRecord>, _| {
                let stance = Stance::Leaving;
                worker.map(|worker| WorkerRecord { stance, ..worker })
            };
            worker = self.worker_step(worker_id, leaves).await;
        }
        self.let_go(worker_id, worker).await;
        Ok(())
    }

    /// Ignores the conflict of a late or duplicate post from the worker that held the job last, so that the worker does
    /// not retry it.
    async fn accept_late<T>(
        &self,
        worker_id: &str,
        id: &str,
        stepped: Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        match stepped {
            Err(Refusal::Conflict(why)) => {
                let job = self.record(id).await?;
                let was_its_own = job.worker.as_deref() == Some(worker_id);
                if was_its_own && job.status.is_final() {
                    return Ok(None);
                }
                Err(Refusal::Conflict(why))
            }
            stepped => stepped.map(Some),
        }
    }

    /// Accepts one chunk of a job's stream. `key` identifies the chunk if it is posted again.
    pub(crate) async fn chunk(
        &self,
        worker_id: &str,
        id: &str,
        chunk: Bytes,
        key: Option<&str>,
    ) -> Result<(), Refusal> {
        self.saw(worker_id).await;
        let now = self.store.now();
        let new = NewChunk {
            worker_id,
            bytes: chunk.len(),
            key,
            limit: self.rules.chunk,
            buffer: self.rules.stream_buffer,
        };
        self.step(id, Payload::Chunk(chunk), |job| step::chunk(job, now, &new))
            .await
            .map(|_| ())
    }

    /// Accepts a heartbeat with the ids of the jobs that the worker reports as running. Sends a stop for each job that
    /// it no longer holds, again with each heartbeat: the official worker ignores a stop that arrives before it has
    /// started the job. Requeues jobs of the worker that it has not listed for the allowed silence, since they never
    /// reached it.
    pub(crate) async fn ping(&self, worker_id: &str, running: &[&str], unhealthy: bool) {
        let heard = self.worker_step(worker_id, |worker, heard| {
            Some(WorkerRecord {
                unhealthy,
                ..WorkerRecord::heard(worker, heard)
            })
        });
        if heard.await.is_none() {
            return;
        }
        let now = self.store.now();
        for id in running {
            let named = self.step(id, Payload::None, |job| step::name(job, now, worker_id));
            if named.await.is_err() {
                self.stop_stray(worker_id, &Id::from(*id)).await;
            }
        }
        for id in self.store.held(worker_id).await {
            let Ok(job) = self.record(&id).await else {
                continue;
            };
            if job.named + self.rules.silence <= now {
                self.lose_job(&id, worker_id).await;
            }
        }
    }

    /// Sends a stop to a worker that reports a job as running but does not hold it.
    async fn stop_stray(&self, worker_id: &str, id: &Id) {
        loop {
            let job = self.store.job(id, Wanted::Nothing).await;
            let record = job.as_ref().map(|job| &*job.record);
            if record.is_some_and(|job| !job.is_stray_at(worker_id))
                || self.store.signal_stop(worker_id, id, record).await.is_ok()
            {
                return;
            }
        }
    }

    /// Removes and returns the jobs that the worker must cancel. If the response does not reach the worker,
    /// [`unstop`](Self::unstop) puts them back.
    pub(crate) async fn stops(&self, worker_id: &str) -> Vec<Id> {
        self.store.take_stops(worker_id).await
    }

    pub(crate) async fn unstop(&self, worker_id: &str, ids: &[Id]) {
        for id in ids {
            self.stop_stray(worker_id, id).await;
        }
    }

    /// Requeues a job that its worker lost or never received. After the allowed number of tries, the job fails instead.
    pub(super) async fn lose_job(&self, id: &str, worker_id: &str) {
        let now = self.store.now();
        let lost_worker = LostWorker {
            worker_id,
            tries: self.rules.tries,
            error: &self.rules.lost_error,
        };
        let lost = self.step(id, Payload::None, |job| step::lose(job, now, &lost_worker));
        // A refusal means that the job has ended, or that another worker holds it.
        let _: Result<_, Refusal> = lost.await;
    }
}
