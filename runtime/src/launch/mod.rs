//! Starting a worker: the builder, the command line, and the choice of where jobs come from. The only room that knows
//! every way to run.

mod args;
mod builder;
mod start;

pub use builder::Worker;
pub use start::run;
