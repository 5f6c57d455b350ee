//! The version of this crate.

/// The version of this crate, which the worker reports to the platform.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
