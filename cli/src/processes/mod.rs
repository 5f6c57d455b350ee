//! Processes and signals.

mod interrupts;
mod worker;

pub(crate) use interrupts::Interrupts;
pub(crate) use worker::{WorkerProcess, ask};
