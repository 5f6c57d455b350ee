//! The platform under load: its rates compared with those of a bare route, and the memory of many jobs.

mod programs;
mod server;
mod wrk;

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::instruments::machine::Machine;
use programs::LoadPrograms;
use server::{Server, post};
use wrk::{Rate, Wrk};

/// The options of the load benchmark.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// The duration of each rate's measurement, in seconds.
    pub seconds: u32,
    /// The number of queued jobs whose memory is measured.
    pub queued: u64,
    /// The number of results that are kept until they expire.
    pub kept: u64,
}

const LIFTED: &str = "run_rate=0,runsync_rate=0";
/// The limit on the time until memory is returned to the system.
const PATIENCE: Duration = Duration::from_mins(2);

/// Runs the benchmark, and prints a table.
///
/// # Errors
/// Returns an error if a program cannot be started, or answers in an unexpected way.
pub fn run(options: LoadOptions) -> Result<()> {
    let programs = LoadPrograms::build()?;
    let wrk = Wrk::new(options.seconds)?;
    println!("{}\n", Machine::this()?);
    println!(
        "| call, 32 at once | per second | p50 | p99 | ratio to the bare route |\n|---|---:|---:|---:|---:|"
    );
    let bare = {
        let route = Server::start(Command::new(&programs.route))?;
        wrk.measure(&route, "/run")?
    };
    tell("a bare axum route that answers like `/run`", &bare, &bare);
    for (what, rules, path) in [
        ("`/run`, the documented rate, with a worker", "", "/run"),
        (
            "`/runsync`, the documented rate, with a worker",
            "",
            "/runsync",
        ),
        ("`/run`, no rate limit, with a worker", LIFTED, "/run"),
        (
            "`/runsync`, no rate limit, with a worker",
            LIFTED,
            "/runsync",
        ),
    ] {
        let platform = programs.platform(rules)?;
        let _worker = programs.worker(&platform)?;
        tell(what, &wrk.measure(&platform, path)?, &bare);
    }
    let platform = programs.platform(LIFTED)?;
    tell(
        "`/run`, no rate limit, no worker",
        &wrk.measure(&platform, "/run")?,
        &bare,
    );
    drop(platform);
    println!();
    weigh_queued(&programs, options.queued)?;
    weigh_kept(&programs, options.kept)
}

fn tell(what: &str, rate: &Rate, bare: &Rate) {
    let Rate {
        accepted,
        refused,
        p50,
        p99,
    } = rate;
    let mut note = String::new();
    if *refused > 0.0 {
        // Writing to a String cannot fail.
        let _ = write!(note, " ({refused:.0} more refused)");
    }
    let ratio = accepted / bare.accepted;
    println!("| {what} | {accepted:.0}{note} | {p50} | {p99} | {ratio:.3}× |");
}

/// Queues jobs, and prints the memory per job.
fn weigh_queued(programs: &LoadPrograms, jobs: u64) -> Result<()> {
    let platform = programs.platform(LIFTED)?;
    let wrk = Wrk::new(5)?;
    let before = platform.memory()?;
    let mut queued = 0;
    while queued < jobs {
        wrk.measure(&platform, "/run")?;
        queued = platform.health("inQueue")?;
    }
    let each = (platform.memory()? - before) / queued;
    println!("{queued} queued jobs, with an input of 2 bytes each: {each} bytes of memory per job");
    Ok(())
}

/// Runs jobs, and prints the memory of their results before and after they expire.
fn weigh_kept(programs: &LoadPrograms, jobs: u64) -> Result<()> {
    const RETENTION: u64 = 60;
    let platform = programs.platform(&format!("{LIFTED},run_retention={RETENTION}s"))?;
    let before = platform.memory()?;
    let mut connection = platform.connect()?;
    // This loop must take less than `RETENTION`, or the first results expire too early.
    for _ in 0..jobs {
        post(
            &mut connection,
            "/run",
            r#"{"input":{"prompt":"to be or not to be"}}"#,
        )?;
    }
    let worker = programs.worker(&platform)?;
    platform.until(|overview| overview["health"]["jobs"]["completed"].as_u64() >= Some(jobs))?;
    let kept = platform.memory()?;
    drop(worker);
    platform.until(|overview| overview["jobs"].as_array().is_some_and(Vec::is_empty))?;
    // The allocator returns memory to the system only while it serves other requests.
    let began = Instant::now();
    let mut after = platform.memory()?;
    while after > before + (kept - before) / 4 && began.elapsed() < PATIENCE {
        platform.health("inQueue")?;
        after = platform.memory()?;
    }
    let megabytes = |bytes: u64| bytes / 1_000_000;
    println!(
        "{jobs} kept results: {} MB more than an empty platform; {RETENTION} s later, all expired: {} MB",
        megabytes(kept - before),
        megabytes(after.saturating_sub(before))
    );
    Ok(())
}
