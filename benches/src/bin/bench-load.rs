//! The program that measures the platform under load.

use std::process::ExitCode;

use clap::Parser;
use podwork_benches::load::{LoadOptions, run};

/// Measure the platform and a bare axum route under load, with wrk (`apt-get install wrk`)
#[derive(Debug, Parser)]
struct Args {
    /// Duration of each rate's measurement, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u32,

    /// Number of queued jobs whose memory is measured
    #[arg(long, default_value_t = 1_000_000)]
    queued: u64,

    /// Number of results that are kept until they expire
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
