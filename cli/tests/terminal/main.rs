//! Tests of what the tool prints: its reports, its errors, and outputs that nobody reads or that are on a full disk.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

#[path = "../common/mod.rs"]
mod common;
#[cfg(target_os = "linux")]
mod dev;
mod doctor;
#[cfg(target_os = "linux")]
mod output;
#[cfg(target_os = "linux")]
mod threads;
// Other systems do not read `SSL_CERT_FILE`.
#[cfg(target_os = "linux")]
mod tls;
