//! Benchmarks of podwork against bare HTTP (the floors) and against the official worker, in turn, on the same machine
//! and with the same platform. `benches/README.md` explains how to run them and how to read the results.

// Each module imports only from the modules below it.

// A separate benchmark: the platform under load.
pub mod load;

// All figures, and their tables, plots and targets.
mod report;

// The cases, one run of a contender, and the cache.
mod measure;

// Processes of the platform and the workers, the times of jobs, and the machine.
pub mod instruments;

// The programs that are measured, and their workloads.
pub mod contenders;

// The error type.
mod error;

use std::path::PathBuf;
use std::time::Duration;

pub use contenders::programs::Programs;
pub use error::Result;

use contenders::programs::Contender;
use instruments::platform::PlatformProcess;
use measure::cases::{CASES, Case};
use measure::{cache, run as runs};
use report::findings::Findings;
use report::{plot, readme, table};

/// The command line name of the measurement of start, idle cost and size.
const PROCESS: &str = "process";
/// The command line name of the measurement of the cache.
const CACHE: &str = "cache";
/// The command line name of all measurements, except those that run only if they are named.
const ALL: &str = "all";

/// The options of a benchmark.
#[derive(Debug, Clone)]
pub struct BenchOptions {
    /// The names of the cases. Default: all, except those that run only if they are named.
    pub only: Vec<String>,
    /// The number of runs of each contender for each case.
    pub rounds: usize,
    /// The divisor of all amounts of work.
    pub shrink: usize,
    /// The time for which an idle worker is measured.
    pub idle: Duration,
    /// The number of measured starts of each contender.
    pub starts: usize,
    /// The folder for tables and plots.
    pub out: PathBuf,
    /// A Markdown file with marks, between which the short table is written.
    pub readme: Option<PathBuf>,
}

/// Runs the benchmark, prints the tables, and writes them and the plots.
///
/// # Errors
/// Returns an error if a name is unknown or a contender fails.
pub fn run(options: &BenchOptions, programs: &Programs) -> Result<()> {
    let cases = chosen(&options.only)?;
    let mut findings = Findings::new(options.rounds, options.shrink)?;
    let mut platform = PlatformProcess::start(&programs.platform)?;
    if names(&options.only, PROCESS) {
        processes(options, programs, &mut platform, &mut findings)?;
    }
    if names(&options.only, CACHE) {
        for round in 1..=options.rounds {
            eprintln!("{CACHE}: {round} of {}", options.rounds);
            cache::measure(programs, round, options.shrink, &mut findings.cache)?;
        }
    }
    for case in cases {
        let rounds = if case.on_demand { 1 } else { options.rounds };
        for round in 1..=rounds {
            eprintln!("{}: {round} of {rounds}", case.name);
            for contender in Contender::turns(round) {
                let run = runs::measure(&mut platform, programs, case, contender, options.shrink)
                    .map_err(|error| format!("{}, {contender}: {error}", case.name))?;
                findings.add(case, contender, run);
            }
        }
    }
    drop(platform);
    let report = table::report(&findings);
    println!("{report}");
    std::fs::create_dir_all(&options.out)?;
    std::fs::write(options.out.join("results.md"), report)?;
    plot::all(&findings, &options.out)?;
    if let Some(path) = &options.readme {
        readme::update(path, &table::headline(&findings))?;
    }
    eprintln!("Wrote tables and plots to {}.", options.out.display());
    Ok(())
}

/// Returns whether `only` selects `that`.
fn names(only: &[String], that: &str) -> bool {
    only.is_empty() || only.iter().any(|name| name == ALL || name == that)
}

/// Returns the cases that `only` selects.
fn chosen(only: &[String]) -> Result<Vec<&'static Case>> {
    let known: Vec<&str> = [ALL, PROCESS, CACHE]
        .into_iter()
        .chain(CASES.iter().map(|case| case.name))
        .collect();
    if let Some(unknown) = only.iter().find(|name| !known.contains(&name.as_str())) {
        let known = known.join(", ");
        return Err(format!("unknown case `{unknown}`; the cases are: {known}").into());
    }
    let wanted = |case: &&Case| {
        if case.on_demand {
            only.iter().any(|name| name == case.name)
        } else {
            names(only, case.name)
        }
    };
    Ok(CASES.iter().filter(wanted).collect())
}

/// Measures the starts of each contender, and once its idle cost.
fn processes(
    options: &BenchOptions,
    programs: &Programs,
    platform: &mut PlatformProcess,
    findings: &mut Findings,
) -> Result<()> {
    for round in 1..=options.starts {
        eprintln!("{PROCESS}: {round} of {}", options.starts);
        for contender in Contender::turns(round) {
            let idle = (round == options.starts).then_some(options.idle);
            if let Some((took, idle)) = runs::start(platform, programs, contender, idle)
                .map_err(|error| format!("{PROCESS}, {contender}: {error}"))?
            {
                findings.started(contender, took, idle);
            }
        }
    }
    findings.hello = Some(std::fs::metadata(&programs.hello)?.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen_of(only: &[&str]) -> Result<Vec<&'static str>> {
        let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
        Ok(chosen(&only)?.into_iter().map(|case| case.name).collect())
    }

    #[test]
    fn cases_are_chosen_by_name() {
        assert_eq!(chosen_of(&["cpu", "noop-1"]).unwrap(), ["noop-1", "cpu"]);
        assert_eq!(chosen_of(&["million"]).unwrap(), ["million"]);
        assert!(chosen_of(&["process"]).unwrap().is_empty());
        let all = chosen_of(&[]).unwrap();
        assert!(all.contains(&"sleep") && !all.contains(&"million"));
        let more = chosen_of(&["all", "million"]).unwrap();
        assert_eq!(more.len(), all.len() + 1);
        let unknown = chosen_of(&["noop-1", "nap"]).unwrap_err().to_string();
        assert!(
            unknown.starts_with("unknown case `nap`; the cases are: all, process, cache, noop-1,")
        );
    }
}
