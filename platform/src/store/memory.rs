//! A store in memory: maps under one lock. The lock is not held while payloads are copied or across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use podwork_protocol::client::JobCounts;

use super::{Commit, Conflict, Due, Listed, Store, Stored, Wanted};
use crate::clock::Clock;
use crate::engine::{Id, Moment, Record, WebhookCall, WorkerRecord, delta};
use crate::waiters::{Hints, Waiters};

#[cfg(test)]
mod contents;
mod tables;

use tables::Tables;

/// A store that keeps everything in this process's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    tables: Mutex<Tables>,
    clock: Clock,
    waiters: Arc<Waiters>,
}

impl Memory {
    pub(crate) fn new(clock: Clock, waiters: Arc<Waiters>) -> Self {
        Self {
            tables: Mutex::default(),
            clock,
            waiters,
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn now(&self) -> Moment {
        self.clock.now()
    }

    async fn job(&self, id: &str, wanted: Wanted) -> Option<Stored> {
        let tables = self.tables();
        let entry = tables.jobs.get(id)?;
        let mut stored = Stored::bare(Arc::clone(&entry.record));
        let marks = &entry.record.chunks;
        let (output, from) = match wanted {
            Wanted::Nothing => (false, usize::MAX),
            Wanted::Output => (true, usize::MAX),
            Wanted::Unread => (false, marks.read),
            Wanted::Since(from) => (true, from),
        };
        stored.output = entry.output.clone().filter(|_| output);
        let skipped = from.saturating_sub(marks.gone).min(entry.chunks.len());
        stored.chunks = entry.chunks.range(skipped..).cloned().collect();
        Some(stored)
    }

    async fn front(&self, count: usize) -> Vec<Stored> {
        let tables = self.tables();
        let waiting = tables.queue.values().take(count);
        let entries = waiting.filter_map(|id| tables.jobs.get(id));
        entries
            .map(|entry| Stored {
                input: entry.input.clone(),
                extra: entry.extra.clone(),
                ..Stored::bare(Arc::clone(&entry.record))
            })
            .collect()
    }

    async fn commit(&self, commit: Commit) -> Result<(), Conflict> {
        let Commit {
            before,
            after,
            payload,
        } = commit;
        let delta = delta(before.as_deref(), after.as_deref());
        let applied = self
            .tables()
            .apply(before.as_deref(), after.as_ref(), payload, &delta);
        let (hints, _replaced) = applied?;
        let job = after.as_deref().or(before.as_deref());
        self.waiters.wake(job.map(|job| &*job.id), hints);
        Ok(())
    }

    async fn latest(&self) -> Vec<Stored> {
        let tables = self.tables();
        let entries = tables.latest.iter().filter_map(|id| tables.jobs.get(id));
        entries
            .map(|entry| Stored {
                output: entry.output.clone(),
                ..Stored::bare(Arc::clone(&entry.record))
            })
            .collect()
    }

    async fn counts(&self) -> (usize, JobCounts) {
        let tables = self.tables();
        let mut counts = tables.counts;
        counts.in_queue = tables.queue.len() as u64;
        (tables.jobs.len(), counts)
    }

    async fn worker(&self, id: &str) -> Option<Listed> {
        let tables = self.tables();
        let (id, at) = tables.workers.get_key_value(id)?;
        Some(at.listed(id))
    }

    async fn workers(&self) -> Vec<Listed> {
        let tables = self.tables();
        tables
            .workers
            .iter()
            .map(|(id, at)| at.listed(id))
            .collect()
    }

    async fn held(&self, worker_id: &str) -> Vec<Id> {
        let tables = self.tables();
        let at = tables.workers.get(worker_id);
        at.map_or_else(Vec::new, |at| at.jobs.iter().cloned().collect())
    }

    async fn commit_worker(
        &self,
        id: &Id,
        before: Option<WorkerRecord>,
        after: Option<WorkerRecord>,
    ) -> Result<(), Conflict> {
        let hints = self.tables().apply_worker(id, before, after)?;
        self.waiters.wake(None, hints);
        Ok(())
    }

    async fn signal_stop(
        &self,
        worker_id: &str,
        job_id: &Id,
        read: Option<&Record>,
    ) -> Result<(), Conflict> {
        {
            let mut tables = self.tables();
            if !tables.is_as_read(job_id, read) {
                return Err(Conflict);
            }
            let Some(at) = tables.workers.get_mut(worker_id) else {
                return Ok(());
            };
            at.stops.insert(Id::clone(job_id));
        }
        let hints = Hints {
            stop: true,
            ..Hints::default()
        };
        self.waiters.wake(None, hints);
        Ok(())
    }

    async fn take_stops(&self, worker_id: &str) -> Vec<Id> {
        let mut tables = self.tables();
        let at = tables.workers.get_mut(worker_id);
        at.map_or_else(Vec::new, |at| {
            std::mem::take(&mut at.stops).into_iter().collect()
        })
    }

    async fn first_due(&self) -> Option<(Moment, Due)> {
        self.tables().due.first().cloned()
    }

    async fn first_call(&self) -> Option<Arc<WebhookCall>> {
        let tables = self.tables();
        let (_, id) = tables.calls_due.first()?;
        tables.calls.get(id).cloned()
    }

    async fn commit_call(
        &self,
        before: &WebhookCall,
        after: Option<Arc<WebhookCall>>,
    ) -> Result<(), Conflict> {
        let replaced = self.tables().apply_call(before, after)?;
        drop(replaced);
        Ok(())
    }
}
