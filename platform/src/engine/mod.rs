//! The rules of an endpoint, as a state machine: no I/O, no clock of its own, no waiting.

mod endpoint; // every rule between queue, jobs and workers
mod store; // the job table and the queue
mod worker_table; // the workers heard of
mod timers; // what is due when
mod job; // one job
mod shrink; // hash tables that give room back

pub(crate) use endpoint::{Changes, Endpoint, Overview, Submission};
pub(crate) use job::{Id, Job, Refusal};
