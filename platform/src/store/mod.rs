//! The store of an endpoint's records, payloads and indexes. The [`Store`] trait allows stores other than memory.
//!
//! A store has no unconditional write. A commit replaces one record if it has not changed since it was read, and
//! atomically applies the index changes that [`delta`](crate::engine::delta) derives from the old and new record. After
//! a commit, the store sends [hints](crate::waiters::Hints) to waiting calls. A store knows no rules.

mod memory; // maps under one lock
mod shrink; // shrinking of hash tables

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use podwork_protocol::client::JobCounts;

use crate::engine::{Id, Moment, Record, WebhookCall, WorkerRecord};

pub(crate) use memory::Memory;

/// One endpoint's store.
pub(crate) trait Store: fmt::Debug + Send + Sync + 'static {
    /// Returns the current time on the store's clock.
    fn now(&self) -> Moment;

    /// Returns a job with some of its payloads, all as of the same commit.
    fn job(&self, id: &str, wanted: Wanted) -> impl Future<Output = Option<Stored>> + Send;

    /// Returns up to `count` jobs from the front of the queue, with their inputs. Only the commit of a hand-out removes
    /// a job, so one of several concurrent takes succeeds. A store may temporarily hide returned jobs from other takes.
    fn front(&self, count: usize) -> impl Future<Output = Vec<Stored>> + Send;

    /// Commits a step.
    fn commit(&self, commit: Commit) -> impl Future<Output = Result<(), Conflict>> + Send;

    /// Returns the latest jobs with their outputs, newest first.
    fn latest(&self) -> impl Future<Output = Vec<Stored>> + Send;

    /// Returns the number of stored jobs, and the counts by state.
    fn counts(&self) -> impl Future<Output = (usize, JobCounts)> + Send;

    /// Returns the worker with this id.
    fn worker(&self, id: &str) -> impl Future<Output = Option<Listed>> + Send;

    /// Returns all workers.
    fn workers(&self) -> impl Future<Output = Vec<Listed>> + Send;

    /// Returns the jobs that a worker holds.
    fn held(&self, worker_id: &str) -> impl Future<Output = Vec<Id>> + Send;

    /// Replaces a worker's record if it is still equal to `before`. A worker that holds jobs cannot be removed.
    fn commit_worker(
        &self,
        id: &Id,
        before: Option<WorkerRecord>,
        after: Option<WorkerRecord>,
    ) -> impl Future<Output = Result<(), Conflict>> + Send;

    /// Asks a known worker to cancel a job, if the job has not changed since it was read. `read` is `None` if the job
    /// did not exist.
    fn signal_stop(
        &self,
        worker_id: &str,
        job_id: &Id,
        read: Option<&Record>,
    ) -> impl Future<Output = Result<(), Conflict>> + Send;

    /// Removes and returns the jobs that a worker must cancel.
    fn take_stops(&self, worker_id: &str) -> impl Future<Output = Vec<Id>> + Send;

    /// Returns the first deadline, and the job or worker that it belongs to.
    fn first_due(&self) -> impl Future<Output = Option<(Moment, Due)>> + Send;

    /// Returns the webhook call that is due first.
    fn first_call(&self) -> impl Future<Output = Option<Arc<WebhookCall>>> + Send;

    /// Replaces a webhook call if it has not changed since it was read. `after` is `None` for a call that is delivered
    /// or given up.
    fn commit_call(
        &self,
        before: &WebhookCall,
        after: Option<Arc<WebhookCall>>,
    ) -> impl Future<Output = Result<(), Conflict>> + Send;
}

/// A step to commit.
#[derive(Debug)]
pub(crate) struct Commit {
    /// The record before the step; `None` if the job is new.
    pub(crate) before: Option<Arc<Record>>,
    /// The record after the step; `None` if the job is removed.
    pub(crate) after: Option<Arc<Record>>,
    /// The payload to write with the record.
    pub(crate) payload: Payload,
}

/// The payload that a commit writes besides the record.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    None,
    Job { input: Bytes, extra: Bytes },
    Output(Bytes),
    Chunk(Bytes),
}

/// The payloads to read with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Nothing,
    Output,
    /// The chunks that `/stream` has not delivered.
    Unread,
    /// The output, and the chunks from this index on.
    Since(usize),
}

/// A job as stored. Payloads that were not requested or do not exist are empty.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) record: Arc<Record>,
    pub(crate) input: Bytes,
    pub(crate) extra: Bytes,
    pub(crate) output: Option<Bytes>,
    pub(crate) chunks: Vec<Bytes>,
}

/// A worker, and the number of jobs it holds.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) id: Id,
    pub(crate) worker: WorkerRecord,
    pub(crate) jobs: usize,
}

/// A job or worker with a deadline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Job(Id),
    Worker(Id),
}

/// An error of a commit: the record has changed since it was read, so the caller must read it again. A store whose
/// connection broke during a commit first compares the nonces, since the conflicting commit may be its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict;

impl Stored {
    /// Creates a job with its record only.
    pub(crate) fn bare(record: Arc<Record>) -> Self {
        Self {
            record,
            input: Bytes::new(),
            extra: Bytes::new(),
            output: None,
            chunks: Vec::new(),
        }
    }
}
