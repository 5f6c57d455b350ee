//! The worker at work, and what it is set up with.

mod concurrency;
mod engine;
mod heartbeat;
mod pull;
mod setup;
mod shutdown;
mod stop;

pub(crate) use concurrency::{Asked, Fixed};
pub(crate) use engine::{Settings, work};
pub use setup::{Async, Fallible, Given, NoState, Plain, Setup, StateSource};
pub(crate) use shutdown::Shutdown;
