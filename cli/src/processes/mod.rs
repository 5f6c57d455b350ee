//! Processes and signals.

mod interrupts;
mod worker;

mod supervised;

pub(crate) use interrupts::Interrupts;
pub(crate) use supervised::{ProcessGroup, Supervised, describe};
pub(crate) use worker::{WorkerProcess, ask};
