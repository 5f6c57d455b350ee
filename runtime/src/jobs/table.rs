//! The job table itself: stages and transitions, without clocks, locks or waiters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::error::JobOutcome;
use crate::telemetry::Load;

use super::cancel_tokens::CancelTokens;
use super::recent_ids::RecentIds;

/// The limit for undelivered data of ended jobs, in bytes. Once it is reached, no jobs are fetched, but each running
/// job may still add one outbox and one result.
pub(super) const MAX_UNDELIVERED_BYTES: usize = 64 * 1024 * 1024;
/// The minimum of the limit for undelivered jobs. The limit is the number of jobs that may run at once, if that is
/// larger. It keeps undelivered results from piling up in memory; the minimum lets a worker with one slot continue
/// during a slow post.
pub(super) const MIN_UNDELIVERED_JOBS: usize = 8;

/// The fixed rules of a table.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct JobRules {
    /// The maximum number of jobs in a batch, if the handler takes batches. The concurrency then counts batches, and
    /// the worker fetches jobs for one batch more, which fills up while the others run.
    pub(crate) max_batch: Option<usize>,
    /// The number of consecutive breakdowns that trip the breaker. `None` disables the breaker.
    pub(crate) max_failures: Option<usize>,
}

/// The key of a job or a batch in the table. Unlike a job id, it is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct JobKey(u64);

/// The stage of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The handler has not been called yet.
    Taken,
    /// The handler is running.
    Running { since: Instant },
    /// The run has ended, but the handler may still be running.
    Ended(Ended),
    /// The handler has returned, and the last posts, of `bytes` bytes, are being delivered.
    Delivering { ended: Ended, bytes: usize },
    /// Nothing more of the job is posted, but its handler has not returned. `since`: the start of the handler, if it is
    /// running.
    Abandoned { since: Option<Instant> },
}

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) at: Instant,
    /// The outcome. `None` if the job was cancelled, so that there is nothing to deliver.
    pub(super) outcome: Option<JobOutcome>,
}

impl Stage {
    /// Returns whether the job occupies a slot.
    fn has_slot(self) -> bool {
        !matches!(self, Self::Delivering { .. })
    }

    /// Returns whether the worker still owes the platform a post of the job.
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

/// The counts that each poll needs, kept up to date by [`JobTable::move_to`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) slots: usize,
    pub(super) delivering: usize,
    /// The undelivered data of the jobs in delivery, measured when each handler returned, in bytes.
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

/// The stage of a batch that the handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatchStage {
    Running,
    /// All `jobs` jobs of the batch have ended, but the handler is still running.
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
    /// The jobs completed since the open poll began. If that poll returns one of them, the platform handed it out again
    /// before it received the result. Failed jobs are excluded, because they may be retried.
    completed: BTreeSet<Arc<str>>,
    /// The jobs that have just been settled, whatever their outcome.
    settled: RecentIds,
    /// The number of consecutive breakdowns. It stays constant once the breaker has tripped.
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
            settled: RecentIds::default(),
            breakdowns: 0,
        }
    }

    pub(super) fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Sets the concurrency. Returns whether it changed.
    pub(super) fn set_concurrency(&mut self, concurrency: usize) -> bool {
        std::mem::replace(&mut self.concurrency, concurrency) != concurrency
    }

    /// Returns the total number of slots.
    pub(super) fn limit(&self) -> usize {
        match self.rules.max_batch {
            Some(jobs) => self.concurrency.saturating_add(1).saturating_mul(jobs),
            None => self.concurrency,
        }
    }

    /// Returns the number of slots withheld while batches are stuck: the unused slots of each stuck batch and, if the
    /// stuck batches leave no room for another, those of the next batch, whose jobs would only wait.
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

    /// Returns the number of jobs that may be fetched.
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

    /// Adds a job. Returns `None` if it is already in flight, or was completed since the poll began.
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

    /// Returns whether a job with this id has just been settled.
    pub(super) fn was_settled(&mut self, id: &str, now: Instant) -> bool {
        self.settled.contains(id, now)
    }

    pub(super) fn stage(&self, key: JobKey) -> Option<Stage> {
        self.jobs.get(&key).map(|record| record.stage)
    }

    /// Moves a job to its next stage, or out of the table if `next` is `None`.
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

    /// Records that the handler is called.
    pub(super) fn start(&mut self, key: JobKey, now: Instant) {
        match self.stage(key) {
            Some(Stage::Taken) => self.move_to(key, Some(Stage::Running { since: now })),
            Some(Stage::Abandoned { since: None }) => {
                self.move_to(key, Some(Stage::Abandoned { since: Some(now) }));
            }
            _ => {}
        }
    }

    /// Records the end of a run. Returns when the handler started, if it was called. An abandoned job stays abandoned.
    pub(super) fn end(&mut self, key: JobKey, ended: Ended) -> Option<Instant> {
        let since = match self.stage(key)? {
            Stage::Running { since } => Some(since),
            Stage::Taken => None,
            // Stays abandoned: there is no result to deliver.
            Stage::Abandoned { since } => return since,
            Stage::Ended(_) | Stage::Delivering { .. } => return None,
        };
        self.move_to(key, Some(Stage::Ended(ended)));
        since
    }

    /// Counts the end of a job, which may be a `breakdown`, for the breaker. Returns whether that trips the breaker.
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

    /// Frees the slot of a job whose handler has returned; `bytes` bytes wait in its outbox.
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

    /// Records that nothing more of the job is posted, and whether its output was accepted (`completed`). Returns the
    /// end of its run, if it has ended.
    pub(super) fn settle(&mut self, key: JobKey, completed: bool, now: Instant) -> Option<Ended> {
        if let Some(record) = self.jobs.get(&key) {
            self.settled.add(Arc::clone(&record.id), now);
            if completed {
                self.completed.insert(Arc::clone(&record.id));
            }
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

    /// Adds a batch for the handler. Returns `None` if no other batch may run.
    pub(super) fn start_batch(&mut self) -> Option<JobKey> {
        if self.batches.len() >= self.concurrency {
            return None;
        }
        let key = self.new_key();
        self.batches.insert(key, BatchStage::Running);
        Some(key)
    }

    /// Marks a batch as stuck: all its `jobs` jobs have ended, but the handler is still running. `None` removes the
    /// mark.
    pub(super) fn set_stuck(&mut self, key: JobKey, jobs: Option<usize>) {
        if let Some(stage) = self.batches.get_mut(&key) {
            *stage = jobs.map_or(BatchStage::Running, |jobs| BatchStage::Stuck { jobs });
        }
    }

    /// Removes a batch from which the handler has returned.
    pub(super) fn end_batch(&mut self, key: JobKey) {
        self.batches.remove(&key);
    }

    /// Returns the counts as maintained, and as computed from the jobs.
    #[cfg(test)]
    pub(super) fn recount(&self) -> (Counts, Counts) {
        let mut counts = Counts::default();
        for record in self.jobs.values() {
            counts.add(record.stage);
        }
        (self.counts, counts)
    }
}
