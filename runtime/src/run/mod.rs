//! Running one job from its arrival to its result, alone or in a batch.

pub(crate) mod batches;
pub(crate) mod job;
