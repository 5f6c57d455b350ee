//! Taking jobs from the platform: the poll loop, how many jobs may run at once, and the channel of cancellations.

mod cancel;
mod concurrency;
mod poll;

pub(crate) use cancel::listen;
pub(crate) use concurrency::{Asked, Concurrency, Fixed};
pub(crate) use poll::Poller;
