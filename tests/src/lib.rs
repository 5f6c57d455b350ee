//! Shared parts of the end-to-end tests.

mod binary;
mod client;
mod ledger;
mod scripted;
mod workers;

pub use binary::{Binary, Started};
pub use client::client;
pub use ledger::{Expected, Faults, Ledger};
pub use scripted::{Answer, Recorded, Scripted};
pub use workers::{Running, start, start_on};

/// The README's code, which must compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;
