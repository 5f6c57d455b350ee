//! Starting a worker: the builder, the command line, and the choice of the job source. The only module that knows every
//! mode of a worker.

mod any_worker;
mod args;
mod builder;
mod control;
#[cfg(unix)]
mod init;
mod start;

pub use builder::Worker;
pub use start::run;
