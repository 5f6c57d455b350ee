//! Shared parts of the end-to-end tests.

mod binary;
mod client;
mod hostile;
mod jobs;
mod ledger;
mod openai_worker;
mod process_status;
mod scripted;
mod shared_library;
mod soak_options;
mod time_limit;
mod workers;

pub use binary::{Binary, Started};
pub use client::client;
pub use hostile::{Conn, Hostile};
pub use jobs::{ended, job, submit};
pub use ledger::{Expected, Faults, Ledger};
pub use openai_worker::{OpenAiJob, openai};
pub use process_status::process_status;
pub use scripted::{Answer, Recorded, Scripted};
pub use shared_library::shared_library;
pub use soak_options::soak_options;
pub use time_limit::within_a_minute;
pub use workers::{Running, start, start_on};

/// The code examples of the README, which must compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
#[derive(Debug)]
pub struct Readme;

/// The code examples of the guide, which must compile. Examples that do not start a worker also run.
#[cfg(doctest)]
mod guide {
    macro_rules! chapters {
        ($($name:ident: $file:literal),* $(,)?) => {
            $(
                #[doc = include_str!(concat!("../../docs/src/", $file, ".md"))]
                mod $name {}
            )*
        };
    }

    chapters! {
        first_worker: "first-worker",
        handlers: "handlers",
        state: "state",
        streaming: "streaming",
        concurrency: "concurrency",
        batching: "batching",
        errors: "errors",
        files: "files",
        uploads: "uploads",
        cache: "cache",
        schema: "schema",
        cancellation: "cancellation",
        testing: "testing",
        local_platform: "local-platform",
        images: "images",
        logging: "logging",
        observability: "observability",
        environment: "environment",
        from_python: "from-python",
        self_hosted: "self-hosted",
        performance: "performance",
        upgrading: "upgrading",
        glossary: "glossary",
    }
}
