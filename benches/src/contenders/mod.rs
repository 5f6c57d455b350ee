//! The contenders: their programs, and the work they do.

pub mod floor;
pub(crate) mod programs;
pub mod work;
