//! The contenders: their programs and their workloads.

pub mod floor;
pub(crate) mod programs;
pub mod work;
