//! The table itself: states and transitions, without a clock, a lock or a waiter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::error::JobOutcome;
use crate::telemetry::Load;

use super::cancel_tokens::CancelTokens;

/// Undelivered bytes of ended jobs from which on no job is taken. Each job that runs then may add one outbox and one
/// result.
pub(super) const MAX_UNDELIVERED_BYTES: usize = 64 * 1024 * 1024;
/// Ended jobs that may wait for delivery while further jobs are taken, where fewer run at once; otherwise as many as run.
/// Undelivered work must not pile up in memory, and a worker with one slot is to ride out a slow post.
pub(super) const MIN_UNDELIVERED_JOBS: usize = 8;

/// The rules of a table that do not change.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct JobRules {
    /// The largest batch, in jobs, if jobs go to the handler in batches: the concurrency then counts batches, and one
    /// batch more is taken, which forms while they run.
    pub(crate) max_batch: Option<usize>,
    /// The number of jobs in a row that break down before the breaker trips. `None`: it never does.
    pub(crate) max_failures: Option<usize>,
}

/// A job's place in the table. Unlike its id it is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JobKey(u64);

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its handler has not been called.
    Taken,
    /// Its handler runs.
    Running { since: Instant },
    /// Its run is over, but its handler may have yet to return.
    Ended(Ended),
    /// Its handler has returned; its last posts, of so many bytes, are on their way.
    Delivering { ended: Ended, bytes: usize },
    /// Nothing more of it is posted, and its handler, which may run since then, has yet to return.
    Abandoned { since: Option<Instant> },
}

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) at: Instant,
    /// `None`: it was cancelled, so there is nothing to deliver.
    pub(super) outcome: Option<JobOutcome>,
}

impl Stage {
    /// Whether the job occupies a slot.
    fn has_slot(self) -> bool {
        !matches!(self, Self::Delivering { .. })
    }

    /// Whether the platform is owed something of it.
    fn in_flight(self) -> bool {
        !matches!(self, Self::Abandoned { .. })
    }
}

#[derive(Debug)]
struct JobEntry {
    id: Arc<str>,
    tokens: CancelTokens,
    stage: Stage,
}

/// What is asked at each take, kept up to date by [`JobTable::move_to`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) slots: usize,
    pub(super) delivering: usize,
    /// Of the jobs that are delivered, as each was when its handler returned.
    pub(super) bytes: usize,
}

impl Counts {
    fn add(&mut self, stage: Stage) {
        self.slots += usize::from(stage.has_slot());
        if let Stage::Delivering { bytes, .. } = stage {
            self.delivering += 1;
            self.bytes += bytes;
        }
    }

    fn subtract(&mut self, stage: Stage) {
        self.slots -= usize::from(stage.has_slot());
        if let Stage::Delivering { bytes, .. } = stage {
            self.delivering -= 1;
            self.bytes -= bytes;
        }
    }
}

/// A batch with the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatchStage {
    Running,
    /// All its jobs are gone, which were so many, and the handler has yet to return.
    Stuck {
        jobs: usize,
    },
}

/// All jobs in flight, and the batches they run in.
#[derive(Debug)]
pub(super) struct JobTable {
    rules: JobRules,
    concurrency: usize,
    next_key: u64,
    jobs: BTreeMap<JobKey, JobEntry>,
    /// The jobs in flight, by id.
    by_id: BTreeMap<Arc<str>, JobKey>,
    counts: Counts,
    batches: BTreeMap<JobKey, BatchStage>,
    /// Jobs completed since the open poll began. If that poll brings one of them, it was handed out again before its
    /// result came in. A failed job is not among them: it may well be retried.
    completed: BTreeSet<Arc<str>>,
    /// Jobs in a row that broke down; not counted any further once the breaker has tripped.
    breakdowns: usize,
}

impl JobTable {
    pub(super) fn new(rules: JobRules) -> Self {
        Self {
            rules,
            concurrency: 1,
            next_key: 0,
            jobs: BTreeMap::new(),
            by_id: BTreeMap::new(),
            counts: Counts::default(),
            batches: BTreeMap::new(),
            completed: BTreeSet::new(),
            breakdowns: 0,
        }
    }

    pub(super) fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Returns whether that changed anything.
    pub(super) fn set_concurrency(&mut self, concurrency: usize) -> bool {
        std::mem::replace(&mut self.concurrency, concurrency) != concurrency
    }

    /// The number of jobs that may have a slot.
    pub(super) fn limit(&self) -> usize {
        match self.rules.max_batch {
            Some(jobs) => self.concurrency.saturating_add(1).saturating_mul(jobs),
            None => self.concurrency,
        }
    }

    /// The number of slots that are not given while batches are stuck: the rest of each one's share; and, once no batch
    /// could start, the share of the next one too, whose jobs would only wait.
    fn withheld(&self) -> usize {
        let Some(max) = self.rules.max_batch else {
            return 0;
        };
        let stuck = self.batches.values().filter_map(|stage| match stage {
            BatchStage::Stuck { jobs } => Some(max - max.min(*jobs)),
            BatchStage::Running => None,
        });
        let (count, rest) = stuck.fold((0, 0_usize), |(count, rest), more| {
            (count + 1, rest.saturating_add(more))
        });
        let next = if count > 0 && count >= self.concurrency {
            max
        } else {
            0
        };
        rest.saturating_add(next)
    }

    /// The number of jobs that may be taken.
    pub(super) fn free(&self) -> usize {
        let Counts {
            slots,
            delivering,
            bytes,
        } = self.counts;
        if bytes >= MAX_UNDELIVERED_BYTES {
            return 0;
        }
        let limit = self.limit();
        let free = limit.saturating_sub(slots.saturating_add(self.withheld()));
        let undelivered = limit.max(MIN_UNDELIVERED_JOBS);
        free.min(undelivered.saturating_sub(delivering))
    }

    pub(super) fn load(&self) -> Load {
        Load {
            limit: self.limit(),
            running: self.counts.slots,
            undelivered: self.counts.delivering,
            bytes: self.counts.bytes,
        }
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.by_id.keys().map(ToString::to_string).collect()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn tokens(&self, id: &str) -> Option<CancelTokens> {
        let key = self.by_id.get(id)?;
        self.jobs.get(key).map(|record| record.tokens.clone())
    }

    pub(super) fn polling(&mut self) {
        self.completed.clear();
    }

    fn new_key(&mut self) -> JobKey {
        let key = JobKey(self.next_key);
        self.next_key += 1;
        key
    }

    /// Enters a job; `None`: it is in flight, or was completed since the poll began.
    pub(super) fn take(&mut self, id: &str, tokens: CancelTokens) -> Option<JobKey> {
        if self.by_id.contains_key(id) || self.completed.contains(id) {
            return None;
        }
        let (key, id, stage) = (self.new_key(), Arc::from(id), Stage::Taken);
        self.by_id.insert(Arc::clone(&id), key);
        self.counts.add(stage);
        self.jobs.insert(key, JobEntry { id, tokens, stage });
        Some(key)
    }

    pub(super) fn stage(&self, key: JobKey) -> Option<Stage> {
        self.jobs.get(&key).map(|record| record.stage)
    }

    /// Moves a job to its next stage; `None`: out of the table.
    fn move_to(&mut self, key: JobKey, next: Option<Stage>) {
        let Some(record) = self.jobs.get_mut(&key) else {
            return;
        };
        let before = record.stage;
        self.counts.subtract(before);
        if before.in_flight() && !next.is_some_and(Stage::in_flight) {
            self.by_id.remove(&record.id);
        }
        match next {
            Some(stage) => {
                record.stage = stage;
                self.counts.add(stage);
            }
            None => {
                self.jobs.remove(&key);
            }
        }
    }

    /// The handler is called.
    pub(super) fn start(&mut self, key: JobKey, now: Instant) {
        match self.stage(key) {
            Some(Stage::Taken) => self.move_to(key, Some(Stage::Running { since: now })),
            Some(Stage::Abandoned { since: None }) => {
                self.move_to(key, Some(Stage::Abandoned { since: Some(now) }));
            }
            _ => {}
        }
    }

    /// The run is over. Returns since when the handler ran, if it was called. An abandoned job stays abandoned.
    pub(super) fn end(&mut self, key: JobKey, ended: Ended) -> Option<Instant> {
        let since = match self.stage(key)? {
            Stage::Running { since } => Some(since),
            Stage::Taken => None,
            // It stays: there is no result to deliver.
            Stage::Abandoned { since } => return since,
            Stage::Ended(_) | Stage::Delivering { .. } => return None,
        };
        self.move_to(key, Some(Stage::Ended(ended)));
        since
    }

    /// Counts the end of a job for the breaker, as a breakdown or not. Returns whether that trips it.
    pub(super) fn count_breakdown(&mut self, breakdown: bool) -> bool {
        if self.tripped().is_some() {
            return false;
        }
        self.breakdowns = if breakdown { self.breakdowns + 1 } else { 0 };
        self.tripped().is_some()
    }

    pub(super) fn tripped(&self) -> Option<usize> {
        let limit = self.rules.max_failures?;
        (self.breakdowns >= limit).then_some(limit)
    }

    /// The handler has returned, and frees its slot; `bytes` wait in the job's outbox.
    pub(super) fn vacate(&mut self, key: JobKey, bytes: usize, now: Instant) {
        let ended = match self.stage(key) {
            None | Some(Stage::Delivering { .. }) => return,
            Some(Stage::Abandoned { .. }) => return self.move_to(key, None),
            Some(Stage::Ended(ended)) => ended,
            Some(Stage::Taken | Stage::Running { .. }) => Ended {
                at: now,
                outcome: None,
            },
        };
        self.move_to(key, Some(Stage::Delivering { ended, bytes }));
    }

    /// Nothing more of the job is posted; `completed`: its output was accepted. Returns the end of its run, if it is over.
    pub(super) fn settle(&mut self, key: JobKey, completed: bool) -> Option<Ended> {
        if completed && let Some(record) = self.jobs.get(&key) {
            self.completed.insert(Arc::clone(&record.id));
        }
        match self.stage(key)? {
            Stage::Delivering { ended, .. } => {
                self.move_to(key, None);
                Some(ended)
            }
            Stage::Ended(ended) => {
                self.move_to(key, Some(Stage::Abandoned { since: None }));
                Some(ended)
            }
            Stage::Taken => {
                self.move_to(key, Some(Stage::Abandoned { since: None }));
                None
            }
            Stage::Running { since } => {
                self.move_to(key, Some(Stage::Abandoned { since: Some(since) }));
                None
            }
            Stage::Abandoned { .. } => None,
        }
    }

    /// Enters a batch that goes to the handler, if one may.
    pub(super) fn start_batch(&mut self) -> Option<JobKey> {
        if self.batches.len() >= self.concurrency {
            return None;
        }
        let key = self.new_key();
        self.batches.insert(key, BatchStage::Running);
        Some(key)
    }

    /// All jobs of the batch are gone, which were so many, and the handler has yet to return; `None`: it has.
    pub(super) fn set_stuck(&mut self, key: JobKey, jobs: Option<usize>) {
        if let Some(stage) = self.batches.get_mut(&key) {
            *stage = jobs.map_or(BatchStage::Running, |jobs| BatchStage::Stuck { jobs });
        }
    }

    /// The handler has returned from the batch.
    pub(super) fn end_batch(&mut self, key: JobKey) {
        self.batches.remove(&key);
    }

    /// The counts, made anew from the jobs.
    #[cfg(test)]
    pub(super) fn recount(&self) -> (Counts, Counts) {
        let mut counts = Counts::default();
        for record in self.jobs.values() {
            counts.add(record.stage);
        }
        (self.counts, counts)
    }
}
