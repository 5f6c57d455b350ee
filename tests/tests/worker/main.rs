//! Whole workers: their jobs, their delivery, their command line, and their test kit.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

mod batch;
mod binary;
mod blocked;
mod bounds;
mod delivery;
mod end_to_end;
mod golden;
mod health;
mod realtime;
#[cfg(feature = "schema")]
mod schema;
#[cfg(feature = "local")]
mod test_kit;
