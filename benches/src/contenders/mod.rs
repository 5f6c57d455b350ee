//! The contenders: their programs, and the work they do.

pub(crate) mod programs;
pub mod work;
