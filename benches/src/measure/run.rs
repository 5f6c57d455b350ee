//! One run of a contender for a case.

use std::time::{Duration, Instant, SystemTime};

use crate::contenders::programs::{Contender, Programs};
use crate::contenders::work::{GENERATED, Workload};
use crate::error::Result;
use crate::instruments::messages::{JobLoad, LoadReport, PlatformCommand, PlatformReply};
use crate::instruments::platform::PlatformProcess;
use crate::instruments::process::MeasuredProcess;
use crate::instruments::stats::Spread;
use crate::measure::cases::{Case, Unit};

/// The time between two checks of the worker and its memory.
const LOOK: Duration = Duration::from_millis(100);
/// The limit on the time of one run.
const LONGEST: Duration = Duration::from_mins(15);

/// The figures of one run.
#[derive(Debug, Clone)]
pub(crate) struct CaseRun {
    /// Jobs, chunks or updates per second.
    pub(crate) per_second: f64,
    /// CPU seconds of the worker per 1,000 jobs, chunks or updates.
    pub(crate) cpu: f64,
    pub(crate) latency: Spread,
    pub(crate) gap: Option<Spread>,
    /// The peak memory of the worker, in bytes.
    pub(crate) peak: f64,
    /// The difference between the peak memory and the memory after the warm-up, in bytes.
    pub(crate) rise: f64,
    /// The memory over time, as pairs of seconds and bytes.
    pub(crate) memory: Vec<(f64, f64)>,
    /// The time that the generator of a stream took, in seconds. Only podwork's worker reports it.
    pub(crate) generated: Option<f64>,
}

/// Runs a case. Returns `None` if the contender is not measured.
pub(crate) fn measure(
    platform: &mut PlatformProcess,
    programs: &Programs,
    case: &Case,
    contender: Contender,
    shrink: usize,
) -> Result<Option<CaseRun>> {
    let Some(amount) = case.amount(contender, shrink) else {
        return Ok(None);
    };
    let Some(command) = programs.command(contender, case.work, case.concurrency) else {
        return Ok(None);
    };
    let env = platform.anew(case.latency)?;
    platform.tell(&PlatformCommand::Run(case.load(amount)))?;
    platform.queued()?;
    let mut worker = MeasuredProcess::start(command, &env)?;
    let (mut cpu, mut resident) = (Duration::ZERO, 0);
    let mut memory = Vec::new();
    let report = watch(platform, &mut worker, |worker, warm, at| {
        if warm {
            (cpu, resident) = (worker.cpu()?, worker.memory()?.now);
        }
        memory.push((at.as_secs_f64(), float(worker.memory()?.now)));
        Ok(())
    })?;
    let cpu = worker.cpu()?.saturating_sub(cpu);
    let peak = worker.memory()?.peak;
    let units = case.units(amount);
    let nanos = match case.unit {
        Unit::Jobs => report.took,
        Unit::Chunks | Unit::Updates => report.latency.p50 * i64::try_from(amount.jobs)?,
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "less than a year, and less than a billion jobs"
    )]
    let (units, seconds) = (units as f64, nanos as f64 / 1e9);
    Ok(Some(CaseRun {
        per_second: units / seconds,
        cpu: cpu.as_secs_f64() / units * 1e3,
        latency: report.latency,
        gap: report.gap,
        peak: float(peak),
        rise: float(peak.saturating_sub(resident)),
        memory,
        generated: generated(&worker.said()?),
    }))
}

/// Waits until all jobs have ended. Calls `look` at intervals, and once after the warm-up.
fn watch(
    platform: &mut PlatformProcess,
    worker: &mut MeasuredProcess,
    mut look: impl FnMut(&MeasuredProcess, bool, Duration) -> Result<()>,
) -> Result<LoadReport> {
    let began = Instant::now();
    loop {
        let reply = platform.reply(LOOK).map_err(|error| match worker.said() {
            Ok(said) if !said.is_empty() => format!("{error}; worker output:\n{said}").into(),
            _ => error,
        })?;
        worker.lives()?;
        match reply {
            Some(PlatformReply::Done(report)) => return Ok(report),
            Some(PlatformReply::Warm) => look(worker, true, began.elapsed())?,
            None => look(worker, false, began.elapsed())?,
            Some(other) => return Err(format!("unexpected platform reply: {other:?}").into()),
        }
        if began.elapsed() > LONGEST {
            return Err(format!(
                "not done within {LONGEST:?}; worker output:\n{}",
                worker.said()?
            )
            .into());
        }
    }
}

/// Returns the time of the last generator in a worker's output, in seconds.
fn generated(said: &str) -> Option<f64> {
    let line = said
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix(GENERATED))?;
    Some(line.parse::<f64>().ok()? / 1e6)
}

/// The cost of an idle worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdleUsage {
    /// The resident memory, in bytes.
    pub(crate) memory: f64,
    /// The CPU usage, as a share of a core.
    pub(crate) cpu: f64,
}

/// Returns the time from the start of the process to the hand-out of its first job, in seconds, and, if `idle` is set,
/// the cost of a worker that is then idle for that time.
pub(crate) fn start(
    platform: &mut PlatformProcess,
    programs: &Programs,
    contender: Contender,
    idle: Option<Duration>,
) -> Result<Option<(f64, Option<IdleUsage>)>> {
    let Some(command) = programs.command(contender, Workload::Noop, 1) else {
        return Ok(None);
    };
    let env = platform.anew(0)?;
    platform.tell(&PlatformCommand::Run(one_job()))?;
    platform.queued()?;
    let mut worker = MeasuredProcess::start(command, &env)?;
    let report = watch(platform, &mut worker, |_, _, _| Ok(()))?;
    let started = worker.started.duration_since(SystemTime::UNIX_EPOCH)?;
    #[expect(clippy::cast_precision_loss, reason = "less than a year")]
    let took = (report.first_hand_out - i64::try_from(started.as_nanos())?) as f64 / 1e9;
    let idle = idle.map(|time| -> Result<IdleUsage> {
        let (cpu, began) = (worker.cpu()?, Instant::now());
        std::thread::sleep(time);
        let cpu = worker.cpu()?.saturating_sub(cpu);
        Ok(IdleUsage {
            memory: float(worker.memory()?.now),
            cpu: cpu.as_secs_f64() / began.elapsed().as_secs_f64(),
        })
    });
    Ok(Some((took, idle.transpose()?)))
}

fn one_job() -> JobLoad {
    JobLoad {
        warm_up: 0,
        warm_input: serde_json::Value::Null,
        jobs: 1,
        input: serde_json::json!({}),
        expect: crate::instruments::messages::ExpectedOutput::Output(
            crate::contenders::work::DONE.into(),
        ),
        concurrency: 1,
    }
}

#[expect(clippy::cast_precision_loss, reason = "less than a petabyte")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_load_generator_wins() {
        let said = format!("x\n{GENERATED}7\n{GENERATED}1500\nend\n");
        assert_eq!(generated(&said), Some(0.0015));
        assert_eq!(generated("x\n"), None);
    }
}
