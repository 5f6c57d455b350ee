//! The jobs in flight: one table that holds each job, from the poll until its last post is settled and its handler has
//! returned.
//!
//! ```text
//!            start            end              vacate
//!   Taken ────────▶ Running ───────▶ Ended ─────────▶ Delivering
//!     │                │                │                  │ settle
//!     │ settle         │ settle         │ settle           ▼
//!     └────────────────┴────────────────┴─▶ Abandoned ──▶ gone
//!                                                  vacate
//! ```
//!
//! Free slots, the ids in heartbeats, the rejection of duplicates, the breaker and the gauges are all derived from this
//! table.

mod cancel_tokens;
mod handles;
#[cfg(test)]
mod model;
mod recent_ids;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::telemetry::{Load, TakeTiming, Telemetry};

pub(crate) use cancel_tokens::CancelTokens;
pub(crate) use handles::{BatchPermit, JobDelivery, JobRun};
pub(crate) use table::JobRules;
use table::JobTable;

/// The jobs in flight of one worker.
#[derive(Debug)]
pub(crate) struct Jobs {
    // Never held across an await.
    table: Mutex<JobTable>,
    /// Notified when there may be room for another job.
    room: Notify,
    /// Notified when there may be room for another batch.
    batch_room: Notify,
    /// Cancelled when no job may run any longer.
    worker_ended: CancellationToken,
}

impl Jobs {
    /// Creates an empty table with a concurrency of 1.
    pub(crate) fn new(rules: JobRules) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(JobTable::new(rules)),
            room: Notify::new(),
            batch_room: Notify::new(),
            worker_ended: CancellationToken::new(),
        })
    }

    fn table(&self) -> MutexGuard<'_, JobTable> {
        // No code panics while it holds the lock, so a poisoned table is still consistent.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of jobs, or of batches, that may run at once.
    pub(crate) fn concurrency(&self) -> usize {
        self.table().concurrency()
    }

    /// Sets the number of jobs, or of batches, that may run at once. A higher value applies immediately, a lower one as
    /// jobs end.
    pub(crate) fn set_concurrency(&self, concurrency: usize) {
        if self.table().set_concurrency(concurrency) {
            self.room.notify_one();
            self.batch_room.notify_one();
        }
    }

    /// Waits until at least one more job may run, and returns how many may. Supports a single waiter.
    pub(crate) async fn free(&self) -> usize {
        loop {
            let changed = self.room.notified();
            let free = self.table().free();
            if free > 0 {
                return free;
            }
            changed.await;
        }
    }

    /// Records that a poll begins. From now on, a job that was completed before is no longer rejected as a duplicate.
    pub(crate) fn polling(&self) {
        self.table().polling();
    }

    /// Adds a fetched job. Returns `None` if the platform handed it out twice: it is already in flight, or was
    /// completed after the open poll had begun.
    ///
    /// The job gets a slot even if that exceeds the concurrency, because a fetched job must run.
    pub(crate) fn take(
        self: &Arc<Self>,
        id: &str,
        telemetry: &Telemetry,
        timing: TakeTiming,
    ) -> Option<(JobRun, JobDelivery)> {
        let tokens = CancelTokens::new(&self.worker_ended);
        let key = self.table().take(id, tokens.clone())?;
        let telemetry = telemetry.job(id, timing);
        let run = JobRun::new(Arc::clone(self), key, tokens.clone(), telemetry.clone());
        let delivery = JobDelivery::new(Arc::clone(self), key, tokens.by_platform, telemetry);
        Some((run, delivery))
    }

    /// Returns whether a job with this id was settled a few seconds ago: the platform hands it out again.
    pub(crate) fn was_settled(&self, id: &str) -> bool {
        self.table().was_settled(id, Instant::now())
    }

    /// Cancels a job on behalf of the platform. Returns `false` if it is not in flight, or already cancelled.
    pub(crate) fn cancel(&self, id: &str) -> bool {
        let tokens = self.table().tokens(id);
        let Some(tokens) = tokens.filter(|tokens| !tokens.by_platform.is_cancelled()) else {
            return false;
        };
        tokens.by_platform.cancel();
        true
    }

    /// Returns the ids of the jobs in flight.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.table().ids()
    }

    /// Returns the number of jobs in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.table().in_flight()
    }

    /// Returns the counts of the jobs in flight, for metrics.
    pub(crate) fn load(&self) -> Load {
        self.table().load()
    }

    /// Returns the number of consecutive jobs that broke down, once the breaker has tripped.
    pub(crate) fn tripped(&self) -> Option<usize> {
        self.table().tripped()
    }

    /// Returns a permit for one more batch, if another may run. Supports a single caller.
    pub(crate) fn permit_batch(self: &Arc<Self>) -> Option<BatchPermit> {
        let key = self.table().start_batch()?;
        Some(BatchPermit::new(Arc::clone(self), key))
    }

    /// Waits until there may be room for another batch. Supports a single waiter.
    pub(crate) fn batch_room(&self) -> impl Future<Output = ()> {
        self.batch_room.notified()
    }

    /// Ends all jobs immediately: each fails, and handlers that do not stop are abandoned.
    pub(crate) fn end_all(&self) {
        self.worker_ended.cancel();
    }

    /// Returns the token that is cancelled when no job may run any longer.
    pub(crate) fn worker_ended(&self) -> CancellationToken {
        self.worker_ended.clone()
    }

    /// Ends all jobs when the returned guard is dropped.
    pub(crate) fn end_all_on_drop(&self) -> DropGuard {
        self.worker_ended.clone().drop_guard()
    }
}
