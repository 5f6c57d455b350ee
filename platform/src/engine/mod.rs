//! The rules of an endpoint as pure steps: from one record to the next, without I/O, a clock or a lock.

mod steps; // one step per rule, from job record to job record
mod worker; // a worker's record and its steps
mod call; // a pending webhook call and its steps
mod delta; // the index changes that follow from a step
mod record; // a job without its payloads
mod moment; // points in time on the store's clock
mod refusal; // reasons to reject a call

pub(crate) use call::WebhookCall;
pub(crate) use delta::{ChunkChange, Delta, QueueChange, delta};
pub(crate) use moment::Moment;
pub(crate) use record::{Id, Record};
pub(crate) use refusal::Refusal;
pub(crate) use steps::{JobEnd, LostWorker, NewChunk, ReadMark, Submission};
pub(crate) use worker::{Heard, Stance, WorkerRecord, WorkerState};

/// The steps on a job, one per rule.
pub(crate) mod step {
    pub(crate) use super::steps::{
        cancel, chunk, expire, finish, give_back, hand_out, lose, name, progress, purge, read,
        retry, shorten, submit, time_out,
    };
}
