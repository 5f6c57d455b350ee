//! The instruments: processes of the platform and the workers, the times of jobs, and the machine.

pub mod job_times;
pub(crate) mod machine;
pub mod messages;
pub(crate) mod platform;
pub(crate) mod process;
pub mod stats;
