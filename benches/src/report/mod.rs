//! The report: all figures, and their tables, plots and targets.

pub(crate) mod findings;
mod number;
pub(crate) mod plot;
pub(crate) mod readme;
pub(crate) mod table;
mod targets;
