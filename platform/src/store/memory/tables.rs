//! The tables of a store in memory, and the commits to them. Each commit applies completely, or not at all.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use podwork_protocol::client::JobCounts;

use crate::engine::{
    ChunkChange, Delta, Id, Moment, QueueChange, Record, WebhookCall, WorkerRecord,
};
use crate::store::shrink::shrink;
use crate::store::{Conflict, Due, Listed, Payload};
use crate::waiters::Hints;

/// The maximum number of latest jobs.
const LATEST: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Tables {
    // Boxed, since the table has unused capacity.
    pub(super) jobs: HashMap<Id, Box<Entry>>,
    /// Job ids by position in the queue. Positions increase at the end and decrease at the front.
    pub(super) queue: BTreeMap<i64, Id>,
    pub(super) due: BTreeSet<(Moment, Due)>,
    pub(super) workers: HashMap<Id, AtWorker>,
    pub(super) calls: HashMap<Id, Arc<WebhookCall>>,
    pub(super) calls_due: BTreeSet<(Moment, Id)>,
    pub(super) counts: JobCounts,
    /// The latest jobs, newest first.
    pub(super) latest: VecDeque<Id>,
}

/// A record and its payloads.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Arc<Record>,
    /// The position in the queue, if the job is queued.
    pub(super) place: i64,
    pub(super) input: Bytes,
    pub(super) extra: Bytes,
    pub(super) output: Option<Bytes>,
    /// The stored chunks.
    pub(super) chunks: VecDeque<Bytes>,
}

/// A worker's record, the jobs it holds, and the jobs it must cancel.
#[derive(Debug)]
pub(super) struct AtWorker {
    pub(super) record: WorkerRecord,
    pub(super) jobs: BTreeSet<Id>,
    pub(super) stops: BTreeSet<Id>,
}

/// The values that a commit replaced. They may be large, so they are dropped after the lock is released.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "the fields are only dropped")]
pub(super) struct Replaced {
    record: Option<Arc<Record>>,
    entry: Option<Box<Entry>>,
    output: Option<Bytes>,
    chunks: VecDeque<Bytes>,
}

impl Tables {
    /// Applies a commit completely, or not at all.
    pub(super) fn apply(
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
            let payloads = self
                .jobs
                .get(id)
                .map(|entry| (entry.input.clone(), entry.output.clone()));
            let (input, output) = payloads.unwrap_or_default();
            if let Some(call) = WebhookCall::of(job, input, output) {
                self.calls_due.insert((call.due, Id::clone(&call.id)));
                self.calls.insert(Id::clone(&call.id), Arc::new(call));
            }
        }
        // Also after a hand-out: several hints may have merged into one permit, so each take wakes the next.
        let queued = delta.queue.is_some() && !self.queue.is_empty();
        let hints = Hints {
            queued,
            stop: delta.stop.is_some(),
            due: self.first_due() != first_due,
            call: delta.call,
        };
        Ok((hints, replaced))
    }

    /// Returns whether the job's record has not changed since it was read. `read` is `None` if the job did not exist.
    pub(super) fn is_as_read(&self, id: &str, read: Option<&Record>) -> bool {
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

    /// Stores a record and its payload, and returns what they replace.
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

    pub(super) fn apply_worker(
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

    pub(super) fn apply_call(
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
    pub(super) fn listed(&self, id: &Id) -> Listed {
        Listed {
            id: Id::clone(id),
            worker: self.record,
            jobs: self.jobs.len(),
        }
    }
}
