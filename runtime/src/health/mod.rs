//! The worker's health: fitness checks before the first job, the health check and the breaker between jobs, and the
//! heartbeat that reports both.

pub(crate) mod check;
pub(crate) mod fitness;
pub(crate) mod heartbeat;

pub use check::{Awaited, Blocking, Check};
pub use fitness::MachineCheck;
