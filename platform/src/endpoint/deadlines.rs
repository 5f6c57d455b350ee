//! The deadlines of an endpoint.

use super::Endpoint;
use crate::engine::{Id, Moment, step};
use crate::store::{Due, Payload, Store};

impl<S: Store> Endpoint<S> {
    /// Returns the time at which [`expire`](Self::expire) has work to do.
    pub(crate) async fn next_deadline(&self) -> Option<Moment> {
        self.store.first_due().await.map(|(at, _)| at)
    }

    /// Handles all deadlines that have passed.
    pub(crate) async fn expire(&self) {
        let now = self.store.now();
        let mut done = 0_u32;
        while let Some((at, due)) = self.store.first_due().await
            && at <= now
        {
            done += 1;
            match due {
                Due::Job(id) => self.expire_job(&id, now).await,
                Due::Worker(id) => self.lose_worker(&id, now).await,
            }
            // Lets other tasks run about every 2 ms.
            if done.is_multiple_of(16) {
                tokio::task::coop::consume_budget().await;
            }
        }
    }

    // A refusal in these methods means that the record changed meanwhile. If it is still due, `expire` retries it.

    async fn expire_job(&self, id: &Id, now: Moment) {
        let timed_out = self.step(id, Payload::None, |job| step::time_out(job, now));
        if timed_out.await.is_err() {
            let _ = self.remove(id, |job| step::expire(job, now)).await;
        }
    }

    /// Removes a worker whose process has ended, and requeues its jobs.
    pub(crate) async fn remove_worker(&self, worker_id: &str) {
        let worker_id = Id::from(worker_id);
        for id in self.store.held(&worker_id).await {
            self.lose_job(&id, &worker_id).await;
        }
        while let Some(known) = self.store.worker(&worker_id).await {
            let removed = self
                .store
                .commit_worker(&known.id, Some(known.worker), None);
            if removed.await.is_ok() {
                return;
            }
        }
    }

    /// Removes a worker that made no call for too long, and requeues its jobs. The worker's record is removed last, so
    /// that no job is left behind if this stops halfway.
    async fn lose_worker(&self, worker_id: &Id, now: Moment) {
        for id in self.store.held(worker_id).await {
            self.lose_job(&id, worker_id).await;
        }
        if let Some(known) = self.store.worker(worker_id).await
            && known.worker.lost.is_some_and(|at| at <= now)
        {
            let _ = self
                .store
                .commit_worker(&known.id, Some(known.worker), None)
                .await;
        }
    }
}
