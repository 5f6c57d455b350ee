//! The local platform: its API, its rules, and the page that lists them.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

mod api;
mod browsers;
mod intake;
mod openai;
mod production;
mod raw;
mod rules;
mod rules_page;
