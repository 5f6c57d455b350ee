//! The benchmark program.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use podwork_benches::{BenchOptions, Programs, Result, run};

/// Measure podwork against bare HTTP and against the official worker
#[derive(Debug, Parser)]
struct Args {
    /// Measure only these cases, such as `noop-1,stream`; an unknown name lists all
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,

    /// Number of runs of each contender for each case
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,

    /// Measure a tenth of the work, for a first result
    #[arg(long)]
    quick: bool,

    /// Leave out the official worker, so that Python is not needed
    #[arg(long)]
    without_official: bool,

    /// Also measure this `bench-worker` of another build, as `before`
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,

    /// Folder for tables and plots [default: benches/results for all cases, target/bench-results for some of them]
    #[arg(long)]
    out: Option<PathBuf>,

    /// Also write the short table between the marks of this file
    #[arg(long)]
    readme: Option<PathBuf>,
}

fn main() -> ExitCode {
    match bench(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: Args) -> Result<()> {
    let all = args.only.is_empty() || args.only.iter().any(|name| name == "all");
    // Only a full run replaces the published results.
    let folder = if all && !args.quick && args.against.is_none() {
        "benches/results"
    } else {
        "target/bench-results"
    };
    if let Some(path) = args.against.as_ref().filter(|path| !path.is_file()) {
        return Err(format!("--against {}: not a file", path.display()).into());
    }
    let copies = tempfile::tempdir()?;
    let mut programs = Programs::build(!args.without_official)?;
    if let Some(before) = &args.against {
        programs = programs.against(before, copies.path())?;
    }
    let options = BenchOptions {
        only: args.only,
        rounds: args.rounds.into(),
        shrink: if args.quick { 10 } else { 1 },
        idle: Duration::from_secs(if args.quick { 3 } else { 30 }),
        starts: if args.quick { 3 } else { 20 },
        out: args.out.unwrap_or_else(|| folder.into()),
        readme: args.readme,
    };
    run(&options, &programs)
}
