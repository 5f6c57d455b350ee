//! The running worker: start-up, the loops side by side, and the orderly end.

#[cfg(all(feature = "cache", unix))]
mod cache_upkeep;
mod engine;
mod shutdown;

pub(crate) use engine::{Settings, work};
pub(crate) use shutdown::Shutdown;
