//! The store in this process's memory: maps under one lock, which is held for no copy and no await.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use podwork_protocol::client::JobCounts;

use super::shrink::shrink;
use super::{Commit, Conflict, Due, Listed, Payload, Store, Stored, Wanted};
use crate::clock::Clock;
use crate::engine::{
    ChunkChange, Delta, Id, Moment, QueueChange, Record, WebhookCall, WorkerRecord, delta,
};
use crate::waiters::{Hints, Waiters};

#[cfg(test)]
mod contents;

/// Most jobs among the latest.
const LATEST: usize = 100;

/// Keeps everything in this process's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    tables: Mutex<Tables>,
    clock: Clock,
    waiters: Arc<Waiters>,
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    // Boxed: the table has room for more jobs than there are.
    jobs: HashMap<Id, Box<Entry>>,
    /// Ids by their jobs' places. Places grow at the end and shrink at the front.
    queue: BTreeMap<i64, Id>,
    due: BTreeSet<(Moment, Due)>,
    workers: HashMap<Id, AtWorker>,
    calls: HashMap<Id, Arc<WebhookCall>>,
    calls_due: BTreeSet<(Moment, Id)>,
    counts: JobCounts,
    /// The newest first.
    latest: VecDeque<Id>,
}

/// A record, and its payloads beside it.
#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    /// The place in the queue, while the job is there.
    place: i64,
    input: Bytes,
    extra: Bytes,
    output: Option<Bytes>,
    /// Those that are kept.
    chunks: VecDeque<Bytes>,
}

/// A worker's record, and what belongs to it.
#[derive(Debug)]
struct AtWorker {
    record: WorkerRecord,
    jobs: BTreeSet<Id>,
    stops: BTreeSet<Id>,
}

/// The remains of a commit, dropped without the lock: payloads may be large.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "it is only dropped")]
struct Replaced {
    record: Option<Arc<Record>>,
    entry: Option<Box<Entry>>,
    output: Option<Bytes>,
    chunks: VecDeque<Bytes>,
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

impl Tables {
    /// Applies a commit, or nothing of it.
    fn apply(
        &mut self,
        before: Option<&Record>,
        after: Option<&Arc<Record>>,
        payload: Payload,
        delta: &Delta<'_>,
    ) -> Result<(Hints, Replaced), Conflict> {
        let Some(id) = before.or(after.map(AsRef::as_ref)).map(|job| &job.id) else {
            return Ok(Default::default());
        };
        let unknown = |worker: &&Id| !self.workers.contains_key(&***worker);
        if !self.is_as_read(id, before) || delta.held.as_ref().is_some_and(unknown) {
            return Err(Conflict);
        }
        let first_due = self.first_due();
        let mut replaced = match after {
            Some(after) => self.put(after, payload, delta),
            None => Replaced::default(),
        };
        self.move_in_queue(id, delta.queue);
        self.move_due(&Due::Job(Id::clone(id)), delta.due);
        self.move_between_workers(id, delta);
        self.count(delta);
        if delta.submitted {
            self.latest.truncate(LATEST - 1);
            self.latest.push_front(Id::clone(id));
        }
        if after.is_none() {
            replaced.entry = self.jobs.remove(id);
            shrink(&mut self.jobs);
        }
        if let Some(job) = after.filter(|_| delta.call) {
            let output = self.jobs.get(id).and_then(|entry| entry.output.clone());
            if let Some(call) = WebhookCall::of(job, output) {
                self.calls_due.insert((call.due, Id::clone(&call.id)));
                self.calls.insert(Id::clone(&call.id), Arc::new(call));
            }
        }
        // Also after a job was taken: hints may have met in one permit, and who takes wakes the next.
        let queued = delta.queue.is_some() && !self.queue.is_empty();
        let hints = Hints {
            queued,
            stop: delta.stop.is_some(),
            due: self.first_due() != first_due,
            call: delta.call,
        };
        Ok((hints, replaced))
    }

    /// Whether the job's record is the one that was read; `None`: there was none.
    fn is_as_read(&self, id: &str, read: Option<&Record>) -> bool {
        let stored = self.jobs.get(id).map(|entry| &*entry.record);
        match (stored, read) {
            (Some(stored), Some(read)) => stored.is_same_commit(read),
            (None, None) => true,
            _ => false,
        }
    }

    fn move_in_queue(&mut self, id: &Id, change: Option<QueueChange>) {
        let place = match change {
            None => return,
            Some(QueueChange::Out) => {
                if let Some(entry) = self.jobs.get(id) {
                    self.queue.remove(&entry.place);
                }
                return;
            }
            Some(QueueChange::Last) => {
                let last = self.queue.last_key_value();
                last.map_or(0, |(place, _)| place + 1)
            }
            Some(QueueChange::First) => {
                let first = self.queue.first_key_value();
                first.map_or(0, |(place, _)| place - 1)
            }
        };
        self.queue.insert(place, Id::clone(id));
        if let Some(entry) = self.jobs.get_mut(id) {
            entry.place = place;
        }
    }

    fn first_due(&self) -> Option<Moment> {
        self.due.first().map(|(at, _)| *at)
    }

    fn move_due(&mut self, due: &Due, (before, after): (Option<Moment>, Option<Moment>)) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, due.clone()));
        }
        if let Some(after) = after {
            self.due.insert((after, due.clone()));
        }
    }

    fn move_between_workers(&mut self, id: &Id, delta: &Delta<'_>) {
        if let Some(at) = delta
            .released
            .and_then(|worker| self.workers.get_mut(worker))
        {
            at.jobs.remove(id);
        }
        if let Some(at) = delta.stop.and_then(|worker| self.workers.get_mut(worker)) {
            at.stops.insert(Id::clone(id));
        }
        if let Some(at) = delta.held.and_then(|worker| self.workers.get_mut(worker)) {
            at.stops.remove(id);
            at.jobs.insert(Id::clone(id));
        }
    }

    fn count(&mut self, delta: &Delta<'_>) {
        let (counts, change) = (&mut self.counts, &delta.counts);
        counts.in_progress = counts.in_progress.saturating_add_signed(change.in_progress);
        counts.completed += change.completed;
        counts.failed += change.failed;
        counts.retried += change.retried;
    }

    /// Puts a record into the place of the one before, and its payload beside it.
    fn put(&mut self, after: &Arc<Record>, payload: Payload, delta: &Delta<'_>) -> Replaced {
        let record = Arc::clone(after);
        let Some(entry) = self.jobs.get_mut(&record.id) else {
            let (input, extra) = match payload {
                Payload::Job { input, extra } => (input, extra),
                _ => Default::default(),
            };
            let entry = Entry {
                place: 0,
                record,
                input,
                extra,
                output: None,
                chunks: VecDeque::new(),
            };
            self.jobs.insert(Id::clone(&after.id), Box::new(entry));
            return Replaced::default();
        };
        let mut replaced = Replaced {
            record: Some(std::mem::replace(&mut entry.record, record)),
            ..Replaced::default()
        };
        match delta.chunks {
            ChunkChange::Keep => {}
            ChunkChange::Clear => replaced.chunks = std::mem::take(&mut entry.chunks),
            ChunkChange::Push { gone } => {
                let gone = gone.min(entry.chunks.len());
                replaced.chunks = entry.chunks.drain(..gone).collect();
                if let Payload::Chunk(chunk) = &payload {
                    entry.chunks.push_back(chunk.clone());
                }
            }
        }
        if delta.output {
            let output = match payload {
                Payload::Output(output) => Some(output),
                _ => None,
            };
            replaced.output = std::mem::replace(&mut entry.output, output);
        }
        replaced
    }

    fn apply_worker(
        &mut self,
        id: &Id,
        before: Option<WorkerRecord>,
        after: Option<WorkerRecord>,
    ) -> Result<Hints, Conflict> {
        let at = self.workers.get(id);
        let holds = at.is_some_and(|at| !at.jobs.is_empty());
        if at.map(|at| at.record) != before || (after.is_none() && holds) {
            return Err(Conflict);
        }
        let first_due = self.first_due();
        let lost = |worker: Option<WorkerRecord>| worker.and_then(|worker| worker.lost);
        self.move_due(&Due::Worker(Id::clone(id)), (lost(before), lost(after)));
        match (self.workers.get_mut(id), after) {
            (Some(at), Some(after)) => at.record = after,
            (None, Some(after)) => {
                let at = AtWorker {
                    record: after,
                    jobs: BTreeSet::new(),
                    stops: BTreeSet::new(),
                };
                self.workers.insert(Id::clone(id), at);
            }
            (_, None) => {
                self.workers.remove(id);
                shrink(&mut self.workers);
            }
        }
        Ok(Hints {
            due: self.first_due() != first_due,
            ..Hints::default()
        })
    }

    fn apply_call(
        &mut self,
        before: &WebhookCall,
        after: Option<Arc<WebhookCall>>,
    ) -> Result<Option<Arc<WebhookCall>>, Conflict> {
        let stored = self.calls.get(&before.id);
        if stored.is_none_or(|stored| stored.version != before.version) {
            return Err(Conflict);
        }
        self.calls_due.remove(&(before.due, Id::clone(&before.id)));
        if let Some(after) = after {
            self.calls_due.insert((after.due, Id::clone(&after.id)));
            return Ok(self.calls.insert(Id::clone(&after.id), after));
        }
        let replaced = self.calls.remove(&before.id);
        shrink(&mut self.calls);
        Ok(replaced)
    }
}

impl AtWorker {
    fn listed(&self, id: &Id) -> Listed {
        Listed {
            id: Id::clone(id),
            worker: self.record,
            jobs: self.jobs.len(),
        }
    }
}
