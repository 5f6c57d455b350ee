//! The volume cache, also while its writers and readers are killed.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

mod crashes;
mod volume_cache;
