//! One endpoint: each call reads records, applies a step, and commits it.

mod client_calls; // calls of clients
mod worker_calls; // calls of workers
mod deadlines; // timeouts, expiry and lost workers
mod overview; // summary for the console
#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::engine::{Heard, Id, Record, Refusal, WorkerRecord};
use crate::rules::Rules;
use crate::store::{Commit, Conflict, Memory, Payload, Store, Stored, Wanted};

pub(crate) use overview::Overview;
pub(crate) use worker_calls::NewResult;

/// The maximum number of known workers, since their ids come from the network.
const MOST_WORKERS: usize = 10_000;

/// One endpoint with its records in a store.
#[derive(Debug)]
pub(crate) struct Endpoint<S = Memory> {
    rules: Arc<Rules>,
    store: S,
    /// The number of duplicate and late results.
    late_results: AtomicU64,
}

impl<S: Store> Endpoint<S> {
    pub(crate) fn new(rules: Arc<Rules>, store: S) -> Self {
        Self {
            rules,
            store,
            late_results: AtomicU64::new(0),
        }
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn store(&self) -> &S {
        &self.store
    }

    /// Returns a job with some of its payloads.
    pub(crate) async fn job(&self, id: &str, wanted: Wanted) -> Result<Stored, Refusal> {
        self.store.job(id, wanted).await.ok_or_else(|| {
            Refusal::NotFound(format!(
                "job {id} not found: it never existed or has expired"
            ))
        })
    }

    async fn record(&self, id: &str) -> Result<Arc<Record>, Refusal> {
        Ok(self.job(id, Wanted::Nothing).await?.record)
    }

    /// Applies a step to a job and commits it. Repeats this if the record changes in between. Returns the new record.
    async fn step(
        &self,
        id: &str,
        payload: Payload,
        mut step: impl FnMut(&Record) -> Result<Record, Refusal> + Send,
    ) -> Result<Arc<Record>, Refusal> {
        loop {
            let before = self.record(id).await?;
            let after = step(&before)?;
            if let Ok(after) = self.commit(before, after, payload.clone()).await {
                return Ok(after);
            }
        }
    }

    /// Commits a step, if the record is still `before`.
    async fn commit(
        &self,
        before: Arc<Record>,
        mut after: Record,
        payload: Payload,
    ) -> Result<Arc<Record>, Conflict> {
        after.nonce = fastrand::u64(..);
        let after = Arc::new(after);
        let commit = Commit {
            before: Some(before),
            after: Some(Arc::clone(&after)),
            payload,
        };
        self.store.commit(commit).await?;
        Ok(after)
    }

    /// Removes a job if `may_go` allows it.
    async fn remove(
        &self,
        id: &str,
        may_go: impl Fn(&Record) -> Result<(), Refusal> + Send,
    ) -> Result<(), Refusal> {
        loop {
            let before = self.record(id).await?;
            may_go(&before)?;
            let commit = Commit {
                before: Some(before),
                after: None,
                payload: Payload::None,
            };
            if self.store.commit(commit).await.is_ok() {
                return Ok(());
            }
        }
    }

    /// Applies a step to a worker's record and commits it. Repeats this if the record changes in between. Returns
    /// `None` if the step leaves no record, or if the limit of workers is reached.
    async fn worker_step(
        &self,
        id: &str,
        step: impl Fn(Option<WorkerRecord>, Heard) -> Option<WorkerRecord> + Send,
    ) -> Option<WorkerRecord> {
        loop {
            let (id, before) = match self.store.worker(id).await {
                Some(known) => (known.id, Some(known.worker)),
                None => (Id::from(id), None),
            };
            let heard = Heard {
                now: self.store.now(),
                silence: self.rules.silence,
            };
            let after = step(before, heard);
            if after == before {
                return after;
            }
            if before.is_none() && self.store.workers().await.len() >= MOST_WORKERS {
                return None;
            }
            if self.store.commit_worker(&id, before, after).await.is_ok() {
                return after;
            }
        }
    }
}
