//! Fetching jobs from the platform: the poll loop, the concurrency, and the stop channel.

mod cancel;
mod concurrency;
mod held;
mod intake_log;
mod poll;

pub(crate) use cancel::listen;
pub(crate) use concurrency::{Asked, Concurrency, Fixed};
pub(crate) use poll::{DuplicateJob, Poller};
