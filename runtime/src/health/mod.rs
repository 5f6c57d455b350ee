//! The worker's health: fitness checks before the first job, the health check and the breaker between jobs, and the
//! heartbeat that reports both.

mod check;
pub(crate) mod fitness;
mod heartbeat;

pub use check::{Awaited, Blocking, Check};
pub(crate) use check::{HealthCheck, WorkerHealth};
pub use fitness::MachineCheck;
pub(crate) use heartbeat::Heartbeat;
