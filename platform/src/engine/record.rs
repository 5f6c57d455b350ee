//! A job without its payloads.

use std::sync::Arc;

use podwork_protocol::JobStatus;
use podwork_protocol::client::JobState;

use super::moment::Moment;

/// The id of a job or a worker, which is kept in many places.
pub(crate) type Id = Arc<str>;

/// A job without its payloads. A commit replaces it as a whole, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: Id,
    /// Counts the commits; only the next one of what was read is accepted.
    pub(crate) version: u64,
    /// A random number of the last commit. After a broken connection a store's client finds its own commit by it; and a
    /// record that was removed and made anew is not taken for the old one.
    pub(crate) nonce: u64,
    pub(crate) status: JobStatus,
    /// Hand-outs since the job was submitted or retried.
    pub(crate) tries: u32,
    /// Returns to the queue, by a lost worker or `/retry`.
    pub(crate) requeues: u32,

    /// Longest run, ms.
    pub(crate) execution_timeout_ms: u64,
    /// How long the job is kept once it has ended, ms.
    pub(crate) retention_ms: u64,
    /// When the job is gone, whatever its state.
    pub(crate) expires: Moment,
    /// URL called once the job has ended.
    pub(crate) webhook: Option<Arc<str>>,

    pub(crate) queued: Moment,
    pub(crate) taken: Option<Moment>,
    pub(crate) ended: Option<Moment>,
    /// When its worker last showed that it has the job.
    pub(crate) named: Moment,
    /// The worker that has or had it.
    pub(crate) worker: Option<Id>,
    /// The version whose commit wrote the output: the last progress, then the result.
    pub(crate) output: Option<u64>,
    /// Why the job failed, as JSON text.
    pub(crate) error: Option<Arc<str>>,
    pub(crate) chunks: ChunkMarks,
}

/// The marks of a job's chunks, which are counted from the first one of its run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChunkMarks {
    /// How many there were.
    pub(crate) count: usize,
    /// How many of them are kept no more.
    pub(crate) gone: usize,
    /// How many `/stream` has delivered.
    pub(crate) read: usize,
    /// Bytes of those kept.
    pub(crate) bytes: usize,
    /// Bytes of those kept although `/stream` has delivered them.
    pub(crate) read_bytes: usize,
    /// The key of the last one, if its worker sends keys.
    pub(crate) last_key: Option<Arc<str>>,
}

impl Record {
    /// The record that the next step starts from.
    pub(super) fn successor(&self) -> Self {
        Self {
            version: self.version + 1,
            ..self.clone()
        }
    }

    /// Whether both are the same commit of the same job.
    pub(crate) fn is_same_commit(&self, other: &Self) -> bool {
        (self.version, self.nonce) == (other.version, other.nonce)
    }

    /// The next moment at which time does something to the job.
    pub(crate) fn due(&self) -> Moment {
        let own = match (self.taken, self.ended) {
            (_, Some(ended)) => ended.plus_millis(self.retention_ms),
            (Some(taken), None) => taken.plus_millis(self.execution_timeout_ms),
            (None, None) => self.expires,
        };
        own.min(self.expires)
    }

    /// The worker that runs the job now.
    pub(crate) fn holder(&self) -> Option<&Id> {
        let runs = self.status == JobStatus::InProgress;
        self.worker.as_ref().filter(|_| runs)
    }

    /// Whether this worker runs the job now.
    pub(crate) fn is_held_by(&self, worker_id: &str) -> bool {
        self.holder().is_some_and(|holder| **holder == *worker_id)
    }

    /// Whether this worker has to stop the job if it believes to run it. A job that has just ended by itself is not
    /// stopped: the worker knows, or is about to.
    pub(crate) fn is_stray_at(&self, worker_id: &str) -> bool {
        match self.status {
            JobStatus::Completed | JobStatus::Failed => false,
            JobStatus::InProgress => !self.is_held_by(worker_id),
            JobStatus::InQueue | JobStatus::Cancelled | JobStatus::TimedOut => true,
        }
    }

    pub(crate) fn state(&self) -> JobState {
        JobState::new(&*self.id, self.status)
    }

    /// Time in the queue, ms. A job that ended in the queue spent all its time there.
    pub(crate) fn delay_ms(&self) -> Option<u64> {
        let until = self.taken.or(self.ended)?;
        Some(until.millis_since(self.queued))
    }

    /// Time at a worker, ms.
    pub(crate) fn execution_ms(&self) -> Option<u64> {
        Some(self.ended?.millis_since(self.taken?))
    }
}
