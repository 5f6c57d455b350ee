//! What time asks of an endpoint.

use super::Endpoint;
use crate::engine::{Id, Moment, step};
use crate::store::{Due, Payload, Store};

impl<S: Store> Endpoint<S> {
    /// When [`expire`](Self::expire) has something to do.
    pub(crate) async fn next_deadline(&self) -> Option<Moment> {
        self.store.first_due().await.map(|(at, _)| at)
    }

    /// Does what is due.
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
            // Others have their turn about every 2 ms.
            if done.is_multiple_of(16) {
                tokio::task::coop::consume_budget().await;
            }
        }
    }

    // What is refused here was changed by somebody else meanwhile, and is looked at again if it is still due.

    async fn expire_job(&self, id: &Id, now: Moment) {
        let timed_out = self.step(id, Payload::None, |job| step::time_out(job, now));
        if timed_out.await.is_err() {
            let _ = self.remove(id, |job| step::expire(job, now)).await;
        }
    }

    /// A worker was not heard of for too long: what it holds is for others. It is forgotten last, so that nothing is left
    /// behind where this ends half-way.
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
