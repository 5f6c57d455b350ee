//! The worker at work, and what it is set up with.

mod concurrency;
mod engine;
mod fitness;
mod health;
mod heartbeat;
mod pull;
mod setup;
mod shutdown;
mod stop;
#[cfg(all(feature = "cache", unix))]
mod upkeep;

pub(crate) use concurrency::{Asked, Fixed};
pub(crate) use engine::{Settings, work};
pub(crate) use fitness::FitnessCheck;
pub use fitness::{MachineCheck, Registered};
pub(crate) use health::HealthCheck;
pub use health::{Awaited, Blocking, Check};
pub use setup::{Async, Fallible, Given, NoState, Plain, Setup, StateSource};
pub(crate) use shutdown::Shutdown;
