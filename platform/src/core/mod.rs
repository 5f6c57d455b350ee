//! The rules of an endpoint, as a state machine: no I/O, no clock of its own, no waiting.

mod endpoint;
mod job;
mod store;
mod table;
mod timers;
mod workers;

pub(crate) use endpoint::{Changes, Endpoint, Overview, Submission};
pub(crate) use job::{Id, Job, Refusal};
