//! The performance targets of podwork, checked against a run.

use crate::contenders::programs::Contender::{Floor, Official, Ours};
use crate::instruments::stats::median;
use crate::measure::cases::LARGE;
use crate::report::findings::Findings;
use crate::report::number::{megabytes, number, time};

/// A target, and its outcome.
#[derive(Debug)]
pub(crate) struct PerformanceTarget {
    pub(crate) text: &'static str,
    pub(crate) measured: String,
    pub(crate) verdict: &'static str,
}

/// The figure for a target, and `true` if the target is met. `None` if a figure is missing.
type Measured = Option<(String, bool)>;

/// The cases with 1, 10 and 100 concurrent no-op jobs.
const NOOP: [&str; 3] = ["noop-1", "noop-10", "noop-100"];

/// The text of a target, and the function that checks it.
type TargetCheck = (&'static str, fn(&Findings) -> Measured);

const TARGETS: [TargetCheck; 16] = [
    (
        "no-op jobs/s at 1, 10, 100 at once: at least 0.7 of the floor",
        throughput,
    ),
    (
        "CPU of a no-op job at 1, 10, 100 at once: at most 1.5× the floor's",
        cpu,
    ),
    (
        "from a result to the next hand-out, 1 at once: at most 1.5 round trips (the floor's is one)",
        gap,
    ),
    (
        "no-op jobs/s, 1 at once: at least 500× the official worker",
        |findings| official(findings, "noop-1", 500.0),
    ),
    (
        "no-op jobs/s, 100 at once: at least 50× the official worker",
        |findings| official(findings, "noop-100", 50.0),
    ),
    ("chunks/s: at least 0.7 of the floor", stream),
    (
        "10,000 chunks at a latency of 20 ms, with joining: at most 1.2× the time at 0 ms",
        joined,
    ),
    (
        "a generator does not wait while the outbox has room: yields 500 chunks within one round trip of 20 ms",
        generator,
    ),
    (
        "jobs/s of a handler whose cost is mostly fixed per call, in batches of 16: at least 8× one job at a time",
        batched,
    ),
    (
        "process start to first take: at most 10 ms, and 1/50 of the official worker's",
        start,
    ),
    (
        "peak memory for no-op jobs at 1, 10, 100 at once: at most 12 MB, and 1/5 of the official worker's",
        memory,
    ),
    ("CPU when idle: below 0.1% of a core", idle),
    ("a payload of 5 MB is in memory at most twice", payload),
    (
        "CPU of a no-op job, 1,000 at once: at most 1.5× that at 10",
        linear,
    ),
    (
        "memory over 1,000,000 jobs: flat (the last tenth at most 1.1× the second)",
        flat,
    ),
    (
        "binary of `hello` without default features, stripped: at most 6 MB",
        hello,
    ),
];

/// Returns all targets.
pub(crate) fn targets(findings: &Findings) -> Vec<PerformanceTarget> {
    let check = |(text, measure): TargetCheck| match measure(findings) {
        Some((measured, met)) => PerformanceTarget {
            text,
            measured,
            verdict: if met { "met" } else { "missed" },
        },
        None => PerformanceTarget {
            text,
            measured: "–".to_owned(),
            verdict: "not measured",
        },
    };
    TARGETS.into_iter().map(check).collect()
}

/// Formats several values for one cell.
fn list(values: &[f64], say: impl Fn(f64) -> String) -> String {
    let said: Vec<String> = values.iter().map(|value| say(*value)).collect();
    said.join(", ")
}

fn times(ratio: f64) -> String {
    format!("{}×", number(ratio))
}

fn throughput(findings: &Findings) -> Measured {
    let ratio = |case| Some(findings.per_second(case, Ours)? / findings.per_second(case, Floor)?);
    let ratios: Vec<f64> = NOOP.map(ratio).into_iter().collect::<Option<_>>()?;
    Some((
        list(&ratios, times),
        ratios.iter().all(|ratio| *ratio >= 0.7),
    ))
}

fn cpu(findings: &Findings) -> Measured {
    let ratio = |case| Some(findings.cpu(case, Ours)? / findings.cpu(case, Floor)?);
    let ratios: Vec<f64> = NOOP.map(ratio).into_iter().collect::<Option<_>>()?;
    Some((
        list(&ratios, times),
        ratios.iter().all(|ratio| *ratio <= 1.5),
    ))
}

fn gap(findings: &Findings) -> Measured {
    let (ours, _) = findings.spread("noop-1", Ours, |run| run.gap)?;
    let (floor, _) = findings.spread("noop-1", Floor, |run| run.gap)?;
    let measured = format!(
        "{} of {}: {}",
        time(ours),
        time(floor),
        number(ours / floor)
    );
    Some((measured, ours <= 1.5 * floor))
}

fn official(findings: &Findings, case: &'static str, least: f64) -> Measured {
    let ratio = findings.per_second(case, Ours)? / findings.per_second(case, Official)?;
    Some((times(ratio), ratio >= least))
}

fn stream(findings: &Findings) -> Measured {
    let ratio = findings.per_second("stream", Ours)? / findings.per_second("stream", Floor)?;
    Some((times(ratio), ratio >= 0.7))
}

/// Compares streams at a latency of 20 ms with those at 0 ms. A paced generator is compared with itself. One without a
/// pace is compared with the same stream unjoined: joined, at 0 ms, it takes less than one round trip of 20 ms.
fn joined(findings: &Findings) -> Measured {
    let took = |case| Some(findings.spread(case, Ours, |run| Some(run.latency))?.0);
    let (paced, paced_far) = (took("paced")?, took("paced-20ms")?);
    let (plain, far) = (took("stream")?, took("join-20ms")?);
    let measured = format!(
        "yielded in 2 s: {} of {}, {}; yielded at once: {} of {} unjoined, {}",
        time(paced_far),
        time(paced),
        times(paced_far / paced),
        time(far),
        time(plain),
        times(far / plain)
    );
    Some((measured, paced_far <= 1.2 * paced && far <= 1.2 * plain))
}

fn generator(findings: &Findings) -> Measured {
    let took = findings.median("stream-20ms", Ours, |run| run.generated)?;
    Some((time(took), took <= 0.02))
}

fn batched(findings: &Findings) -> Measured {
    let ratio = findings.per_second("batch", Ours)? / findings.per_second("call", Ours)?;
    Some((times(ratio), ratio >= 8.0))
}

fn start(findings: &Findings) -> Measured {
    let (ours, official) = (findings.start(Ours)?, findings.start(Official)?);
    let measured = format!("{}, 1/{}", time(ours), number(official / ours));
    Some((measured, ours <= 0.01 && ours * 50.0 <= official))
}

fn memory(findings: &Findings) -> Measured {
    let peaks = |contender| -> Option<Vec<f64>> {
        NOOP.map(|case| findings.peak(case, contender))
            .into_iter()
            .collect()
    };
    let (ours, official) = (peaks(Ours)?, peaks(Official)?);
    let shares: Vec<f64> = ours
        .iter()
        .zip(&official)
        .map(|(ours, official)| official / ours)
        .collect();
    let measured = format!(
        "{}; {}",
        list(&ours, megabytes),
        list(&shares, |share| format!("1/{}", number(share)))
    );
    let met = ours.iter().all(|peak| *peak <= 12e6) && shares.iter().all(|share| *share >= 5.0);
    Some((measured, met))
}

fn idle(findings: &Findings) -> Measured {
    let share = findings.idle(Ours)?.cpu;
    Some((format!("{}%", number(share * 100.0)), share < 0.001))
}

fn payload(findings: &Findings) -> Measured {
    let rise = findings.median("payload", Ours, |run| Some(run.rise))?;
    #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
    let held = rise / LARGE as f64;
    // The buffers of the connection also grow, by a tenth of that.
    Some((
        format!("{} more: {}", megabytes(rise), times(held)),
        held < 2.2,
    ))
}

fn linear(findings: &Findings) -> Measured {
    let ratio = findings.cpu("noop-1000", Ours)? / findings.cpu("noop-10", Ours)?;
    Some((times(ratio), ratio <= 1.5))
}

fn flat(findings: &Findings) -> Measured {
    let [run, ..] = findings.runs("million", Ours) else {
        return None;
    };
    let (early, late) = growth(&run.memory)?;
    let measured = format!("{}, then {}", megabytes(early), megabytes(late));
    Some((measured, late <= 1.1 * early))
}

/// Returns the medians of the second tenth and of the last tenth.
fn growth(memory: &[(f64, f64)]) -> Option<(f64, f64)> {
    let tenth = memory.len() / 10;
    let bytes =
        |part: &[(f64, f64)]| median(&part.iter().map(|(_, bytes)| *bytes).collect::<Vec<_>>());
    Some((
        bytes(memory.get(tenth..2 * tenth)?)?,
        bytes(memory.get(memory.len() - tenth..)?)?,
    ))
}

fn hello(findings: &Findings) -> Measured {
    #[expect(clippy::cast_precision_loss, reason = "a program is small enough")]
    let bytes = findings.hello? as f64;
    Some((megabytes(bytes), bytes <= 6e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_measured_from_the_second_tenth_to_the_last() {
        let memory: Vec<(f64, f64)> = (0..100).map(|at| (f64::from(at), f64::from(at))).collect();
        assert_eq!(growth(&memory), Some((14.5, 94.5)));
        assert_eq!(growth(&memory[..5]), None);
    }
}
