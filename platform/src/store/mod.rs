//! Where an endpoint's records, payloads and indexes are kept: the seam for stores beside memory.
//!
//! A store has no unconditional write. A commit replaces one record if it is still the one that was read, and applies the
//! index changes that [`delta`](crate::engine::delta) derives from both, at once or not at all. After a commit it gives
//! [hints](crate::waiters::Hints) to those who wait. Rules are not its matter.

mod memory; // maps under one lock
mod shrink; // hash tables that give room back

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use podwork_protocol::client::JobCounts;

use crate::engine::{Id, Moment, Record, WebhookCall, WorkerRecord};

pub(crate) use memory::Memory;

/// One endpoint's store.
pub(crate) trait Store: fmt::Debug + Send + Sync + 'static {
    /// The moment on the store's clock.
    fn now(&self) -> Moment;

    /// A job with some of its payloads, all as of one commit.
    fn job(&self, id: &str, wanted: Wanted) -> impl Future<Output = Option<Stored>> + Send;

    /// Up to `count` jobs from the queue's front, with their inputs. Only the commit of a hand-out takes one out of it, so
    /// that of several takers one succeeds; a store may keep them from each other for a while.
    fn front(&self, count: usize) -> impl Future<Output = Vec<Stored>> + Send;

    /// Commits a step.
    fn commit(&self, commit: Commit) -> impl Future<Output = Result<(), Conflict>> + Send;

    /// The jobs submitted last, the newest first, with their outputs.
    fn latest(&self) -> impl Future<Output = Vec<Stored>> + Send;

    /// How many jobs are kept, and how many stand where.
    fn counts(&self) -> impl Future<Output = (usize, JobCounts)> + Send;

    /// The worker of this id.
    fn worker(&self, id: &str) -> impl Future<Output = Option<Listed>> + Send;

    /// All workers.
    fn workers(&self) -> impl Future<Output = Vec<Listed>> + Send;

    /// The jobs that a worker holds.
    fn held(&self, worker_id: &str) -> impl Future<Output = Vec<Id>> + Send;

    /// Replaces a worker's record, if it is still as it was before. A worker that holds jobs cannot be removed.
    fn commit_worker(
        &self,
        id: &Id,
        before: Option<WorkerRecord>,
        after: Option<WorkerRecord>,
    ) -> impl Future<Output = Result<(), Conflict>> + Send;

    /// Has a known worker stop a job, if the job is still as it was read; `None`: the job was not there.
    fn signal_stop(
        &self,
        worker_id: &str,
        job_id: &Id,
        read: Option<&Record>,
    ) -> impl Future<Output = Result<(), Conflict>> + Send;

    /// Takes out the jobs that a worker is to stop.
    fn take_stops(&self, worker_id: &str) -> impl Future<Output = Vec<Id>> + Send;

    /// What is due first, and when.
    fn first_due(&self) -> impl Future<Output = Option<(Moment, Due)>> + Send;

    /// The webhook call that is due first.
    fn first_call(&self) -> impl Future<Output = Option<Arc<WebhookCall>>> + Send;

    /// Replaces a webhook call, if it is still as it was before; `None`: it is delivered, or given up.
    fn commit_call(
        &self,
        before: &WebhookCall,
        after: Option<Arc<WebhookCall>>,
    ) -> impl Future<Output = Result<(), Conflict>> + Send;
}

/// A step that is to be committed.
#[derive(Debug)]
pub(crate) struct Commit {
    /// The record that the step started from; `None`: the job is new.
    pub(crate) before: Option<Arc<Record>>,
    /// The record that it led to; `None`: the job goes.
    pub(crate) after: Option<Arc<Record>>,
    /// Written with it.
    pub(crate) payload: Payload,
}

/// What a commit writes beside the record.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    None,
    Job { input: Bytes, extra: Bytes },
    Output(Bytes),
    Chunk(Bytes),
}

/// The payloads that are read with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Nothing,
    Output,
    /// The chunks that `/stream` has not delivered.
    Unread,
    /// The output, and the chunks from this one on.
    Since(usize),
}

/// A job as it is stored; payloads that were not asked for, or are not there, are empty.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) record: Arc<Record>,
    pub(crate) input: Bytes,
    pub(crate) extra: Bytes,
    pub(crate) output: Option<Bytes>,
    pub(crate) chunks: Vec<Bytes>,
}

/// A worker, and how many jobs it holds.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) id: Id,
    pub(crate) worker: WorkerRecord,
    pub(crate) jobs: usize,
}

/// Somebody for whom time does something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Job(Id),
    Worker(Id),
}

/// The record is not the one that was read: read it again. A store whose connection broke in a commit compares the nonces
/// first, since the commit in its way may be its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict;

impl Stored {
    /// The record alone.
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
