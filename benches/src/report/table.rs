//! The tables, in Markdown.

use std::fmt::Write as _;

use crate::contenders::programs::Contender::{self, Before, Floor, Official, Ours, Raw};
use crate::instruments::stats::Spread;
use crate::measure::cache::{CacheStep, CacheStorage};
use crate::measure::run::CaseRun;
use crate::report::findings::Findings;
use crate::report::number::{megabytes, number, time};
use crate::report::targets::targets;

/// Returns all tables.
pub(crate) fn report(findings: &Findings) -> String {
    let mut text = format!("# Results\n\n{}.\n", how(findings));
    section(&mut text, "Throughput", &throughput(findings));
    if let Some(ratios) = before(findings) {
        section(
            &mut text,
            "Ratios of this build to the other, podwork/before",
            &ratios,
        );
    }
    section(
        &mut text,
        "CPU seconds of the worker per 1,000 jobs, chunks or updates",
        &cpu(findings),
    );
    section(
        &mut text,
        "From hand-out to accepted result, p50 / p99",
        &spreads(findings, |run| Some(run.latency)),
    );
    section(
        &mut text,
        "From a result to the next hand-out, p50 / p99",
        &spreads(findings, |run| run.gap),
    );
    section(&mut text, "Peak memory", &memory(findings));
    section(&mut text, "Start, idle cost and size", &process(findings));
    section(&mut text, "Volume cache", &cache(findings));
    let mut rows = Table::new(&["target", "measured", ""]);
    for target in targets(findings) {
        rows.row(target.text, [target.measured, target.verdict.to_owned()]);
    }
    section(&mut text, "Targets", &rows.0);
    text
}

/// Returns the table for a README.
pub(crate) fn headline(findings: &Findings) -> String {
    format!("{}.\n\n{}", how(findings), throughput(findings))
}

fn how(findings: &Findings) -> String {
    let Findings {
        machine,
        rounds,
        shrink,
        ..
    } = findings;
    let size = match shrink {
        1 => String::new(),
        shrink => format!(", each with 1/{shrink} of the work"),
    };
    format!("{machine}. Medians of {rounds} interleaved rounds{size}")
}

fn section(text: &mut String, title: &str, table: &str) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\n## {title}\n\n{table}");
}

struct Table(String);

impl Table {
    fn new(heads: &[&str]) -> Self {
        let rule = heads.iter().enumerate();
        let rule: Vec<&str> = rule
            .map(|(place, _)| if place == 0 { "---" } else { "---:" })
            .collect();
        Self(format!("| {} |\n|{}|\n", heads.join(" | "), rule.join("|")))
    }

    fn row(&mut self, title: &str, cells: impl IntoIterator<Item = String>) {
        self.0 += "| ";
        self.0 += title;
        for cell in cells {
            self.0 += " | ";
            self.0 += &cell;
        }
        self.0 += " |\n";
    }
}

const NOTHING: &str = "–";

fn cell(value: Option<f64>, say: impl Fn(f64) -> String) -> String {
    value.map_or(NOTHING.to_owned(), say)
}

fn ratio(one: Option<f64>, other: Option<f64>) -> String {
    let ratio = one.zip(other).map(|(one, other)| one / other);
    cell(ratio, |ratio| format!("{}×", number(ratio)))
}

fn throughput(findings: &Findings) -> String {
    let contenders: Vec<Contender> = findings.contenders().collect();
    let names: Vec<String> = contenders.iter().map(ToString::to_string).collect();
    let mut heads = vec!["work", "per second"];
    heads.extend(names.iter().map(String::as_str));
    heads.extend([
        "podwork/floor",
        "podwork/raw",
        "podwork/official",
        "CPU, podwork/floor",
        "CPU, podwork/raw",
    ]);
    let mut table = Table::new(&heads);
    for case in findings.cases() {
        let of = |contender| findings.per_second(case.name, contender);
        let cpu = |contender| findings.cpu(case.name, contender);
        let unit = case.unit.name().to_owned();
        let figures = contenders
            .iter()
            .map(|contender| cell(of(*contender), number));
        let ratios = [
            ratio(of(Ours), of(Floor)),
            ratio(of(Ours), of(Raw)),
            ratio(of(Ours), of(Official)),
            ratio(cpu(Ours), cpu(Floor)),
            ratio(cpu(Ours), cpu(Raw)),
        ];
        table.row(
            case.title,
            std::iter::once(unit).chain(figures).chain(ratios),
        );
    }
    table.0
}

/// Compares this build with another build. Returns `None` if no other build was measured.
fn before(findings: &Findings) -> Option<String> {
    findings
        .contenders()
        .find(|contender| *contender == Before)?;
    let mut table = Table::new(&["work", "rate", "CPU", "p50", "peak memory", "start"]);
    for case in findings.cases() {
        let between =
            |figure: &dyn Fn(Contender) -> Option<f64>| ratio(figure(Ours), figure(Before));
        let p50 = |contender| {
            let latency = findings.spread(case.name, contender, |run| Some(run.latency));
            latency.map(|(p50, _)| p50)
        };
        let cells = [
            between(&|contender| findings.per_second(case.name, contender)),
            between(&|contender| findings.cpu(case.name, contender)),
            between(&p50),
            between(&|contender| findings.peak(case.name, contender)),
            NOTHING.to_owned(),
        ];
        table.row(case.title, cells);
    }
    let idle = |contender| findings.idle(contender);
    let memory = |contender| idle(contender).map(|idle| idle.memory);
    let cpu = |contender| idle(contender).map(|idle| idle.cpu);
    let cells = [
        NOTHING.to_owned(),
        ratio(cpu(Ours), cpu(Before)),
        NOTHING.to_owned(),
        ratio(memory(Ours), memory(Before)),
        ratio(findings.start(Ours), findings.start(Before)),
    ];
    table.row("one job, then idle", cells);
    Some(table.0)
}

/// Creates a table with a column for each contender.
fn by_contender(findings: &Findings, first: &str) -> Table {
    let names: Vec<String> = findings
        .contenders()
        .map(|contender| contender.to_string())
        .collect();
    let names = names.iter().map(String::as_str);
    Table::new(&std::iter::once(first).chain(names).collect::<Vec<_>>())
}

/// Creates a table with a row for each case.
fn by_case(findings: &Findings, say: impl Fn(&'static str, Contender) -> String) -> String {
    let mut table = by_contender(findings, "work");
    for case in findings.cases() {
        let cells = findings
            .contenders()
            .map(|contender| say(case.name, contender));
        table.row(case.title, cells);
    }
    table.0
}

fn cpu(findings: &Findings) -> String {
    by_case(findings, |case, contender| {
        cell(findings.cpu(case, contender), number)
    })
}

fn spreads(findings: &Findings, spread: impl Fn(&CaseRun) -> Option<Spread>) -> String {
    by_case(findings, |case, contender| {
        let spread = findings.spread(case, contender, &spread);
        spread.map_or(NOTHING.to_owned(), |(p50, p99)| {
            format!("{} / {}", time(p50), time(p99))
        })
    })
}

fn memory(findings: &Findings) -> String {
    by_case(findings, |case, contender| {
        cell(findings.peak(case, contender), megabytes)
    })
}

fn process(findings: &Findings) -> String {
    let mut table = by_contender(findings, "");
    let mut row = |name: &str, say: &dyn Fn(Contender) -> String| {
        table.row(name, findings.contenders().map(say));
    };
    row("from process start to first take", &|contender| {
        cell(findings.start(contender), time)
    });
    row("memory when idle", &|contender| {
        cell(findings.idle(contender).map(|idle| idle.memory), megabytes)
    });
    row("CPU when idle, % of a core", &|contender| {
        cell(
            findings.idle(contender).map(|idle| idle.cpu * 100.0),
            number,
        )
    });
    row(
        "binary of `hello`, stripped",
        &|contender| match (contender, findings.hello) {
            #[expect(clippy::cast_precision_loss, reason = "a program is small enough")]
            (Ours, Some(bytes)) => megabytes(bytes as f64),
            _ => NOTHING.to_owned(),
        },
    );
    table.0
}

fn cache(findings: &Findings) -> String {
    let mut table = Table::new(&["work", "podwork", "official", "official/podwork"]);
    for place in CacheStorage::ALL {
        for step in CacheStep::ALL {
            let of = |contender| findings.cache(place, step, contender);
            let cells = [
                cell(of(Ours), time),
                cell(of(Official), time),
                ratio(of(Official), of(Ours)),
            ];
            table.row(&format!("{}, {}", step.title(), place.title()), cells);
        }
    }
    table.0
}
