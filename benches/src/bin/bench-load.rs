//! The load of the platform, as a program.

use std::process::ExitCode;

use clap::Parser;
use podwork_benches::load::{LoadOptions, run};

/// Loads the platform with wrk (`apt-get install wrk`), beside a bare axum route
#[derive(Debug, Parser)]
struct Args {
    /// Duration of each rate's measurement, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u32,

    /// Jobs that are queued and then weighed
    #[arg(long, default_value_t = 1_000_000)]
    queued: u64,

    /// Results that are kept until they expire
    #[arg(long, default_value_t = 100_000)]
    kept: u64,
}

fn main() -> ExitCode {
    let Args {
        seconds,
        queued,
        kept,
    } = Args::parse();
    match run(LoadOptions {
        seconds,
        queued,
        kept,
    }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
