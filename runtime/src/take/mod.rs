//! Taking jobs from the platform: the poll loop, how many jobs may run at once, and the channel of cancellations.

pub(crate) mod cancel;
pub(crate) mod concurrency;
pub(crate) mod poll;
