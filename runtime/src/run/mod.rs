//! Running one job, alone or in a batch, from its arrival to its result.

pub(crate) mod batches;
pub(crate) mod bound;
pub(crate) mod job;
