//! The measurements: the cases, one run of a contender, and the cache.

pub(crate) mod cache;
pub(crate) mod cases;
pub(crate) mod run;
