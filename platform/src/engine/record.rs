//! A job without its payloads.

use std::sync::Arc;

use podwork_protocol::JobStatus;
use podwork_protocol::client::JobState;

use super::moment::Moment;

/// The id of a job or a worker, shared by the indexes that hold it.
pub(crate) type Id = Arc<str>;

/// A job without its payloads. A commit replaces the whole record or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: Id,
    /// The number of commits. A commit is accepted only if it follows the version that was read.
    pub(crate) version: u64,
    /// A random number that identifies the last commit. After a broken connection, a store's client recognizes its own
    /// commit by it. It also distinguishes a record from a removed one with the same id and version.
    pub(crate) nonce: u64,
    pub(crate) status: JobStatus,
    /// The number of hand-outs since the job was submitted, or since the last `/retry`.
    pub(crate) tries: u32,
    /// The number of times that a lost worker or `/retry` returned the job to the queue.
    pub(crate) requeues: u32,

    /// The limit on the job's run time, in milliseconds.
    pub(crate) execution_timeout_ms: u64,
    /// The time for which the job is kept after its end, in milliseconds.
    pub(crate) retention_ms: u64,
    /// The time at which the job is removed, whatever its state.
    pub(crate) expires: Moment,
    /// The URL that is called once the job has ended.
    pub(crate) webhook: Option<Arc<str>>,

    pub(crate) queued: Moment,
    pub(crate) taken: Option<Moment>,
    pub(crate) ended: Option<Moment>,
    /// The last time at which its worker confirmed that it has the job.
    pub(crate) named: Moment,
    /// The worker that holds the job, or held it last.
    pub(crate) worker: Option<Id>,
    /// The version whose commit wrote the output: the last progress, then the result.
    pub(crate) output: Option<u64>,
    /// The error of a failed job, as JSON text.
    pub(crate) error: Option<Arc<str>>,
    pub(crate) chunks: ChunkMarks,
}

/// Counters of a job's chunks, from the first chunk of its run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChunkMarks {
    /// The number of chunks received.
    pub(crate) count: usize,
    /// The number of chunks no longer stored.
    pub(crate) gone: usize,
    /// The number of chunks that `/stream` has delivered.
    pub(crate) read: usize,
    /// The size of the stored chunks, in bytes.
    pub(crate) bytes: usize,
    /// The size of the stored chunks that `/stream` has delivered, in bytes.
    pub(crate) read_bytes: usize,
    /// The idempotency key of the last chunk, if its worker sends keys.
    pub(crate) last_key: Option<Arc<str>>,
}

impl Record {
    /// Returns a copy of the record with the next version, for a step to change.
    pub(super) fn successor(&self) -> Self {
        Self {
            version: self.version + 1,
            ..self.clone()
        }
    }

    /// Returns whether both records are from the same commit of the same job.
    pub(crate) fn is_same_commit(&self, other: &Self) -> bool {
        (self.version, self.nonce) == (other.version, other.nonce)
    }

    /// Returns the job's next deadline: when it times out or expires.
    pub(crate) fn due(&self) -> Moment {
        let own = match (self.taken, self.ended) {
            (_, Some(ended)) => ended.plus_millis(self.retention_ms),
            (Some(taken), None) => taken.plus_millis(self.execution_timeout_ms),
            (None, None) => self.expires,
        };
        own.min(self.expires)
    }

    /// Returns the worker that currently runs the job.
    pub(crate) fn holder(&self) -> Option<&Id> {
        let runs = self.status == JobStatus::InProgress;
        self.worker.as_ref().filter(|_| runs)
    }

    /// Returns whether this worker currently runs the job.
    pub(crate) fn is_held_by(&self, worker_id: &str) -> bool {
        self.holder().is_some_and(|holder| **holder == *worker_id)
    }

    /// Returns whether this worker must cancel the job if it reports the job as running. A job that completed or failed
    /// is not cancelled: the worker knows of its end, or soon will.
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

    /// Returns the number of times that the job returned to the queue; `None` if it never did.
    pub(crate) fn retries(&self) -> Option<u32> {
        Some(self.requeues).filter(|requeues| *requeues > 0)
    }

    /// Returns the time in the queue since the job was last queued, in milliseconds. For a job that ended in the queue, it is the time until its end.
    pub(crate) fn delay_ms(&self) -> Option<u64> {
        let until = self.taken.or(self.ended)?;
        Some(until.millis_since(self.queued))
    }

    /// Returns the run time at the worker, in milliseconds.
    pub(crate) fn execution_ms(&self) -> Option<u64> {
        Some(self.ended?.millis_since(self.taken?))
    }
}
