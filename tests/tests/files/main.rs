//! Downloads, archives, uploads, and the folder of a job.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

mod archives;
mod downloads;
mod folders;
mod inputs;
mod storage;
mod uploads;
