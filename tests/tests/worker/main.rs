//! Whole workers: their jobs, their delivery, their command line, and their test kit.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

mod batch;
mod binary;
mod blocked;
mod bounds;
mod delivery;
mod end_to_end;
#[cfg(target_os = "linux")]
mod frozen;
mod golden;
#[cfg(all(feature = "gpu", target_os = "linux"))]
mod gpu;
mod health;
mod intake;
mod logging;
mod panics;
#[cfg(target_os = "linux")]
mod processes;
mod realtime;
#[cfg(feature = "schema")]
mod schema;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(feature = "local")]
mod test_kit;
#[cfg(target_os = "linux")]
mod threads;
