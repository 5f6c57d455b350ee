//! This crate's version.

/// This crate's version, as the worker reports it to the platform.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
