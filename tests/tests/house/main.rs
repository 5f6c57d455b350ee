//! The repository itself: its modules, its guide, and its dependencies.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod dependencies;
mod guide;
mod modules;
