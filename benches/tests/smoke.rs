//! Tests of the benchmark itself, with small cases.

use std::path::PathBuf;
use std::time::Duration;

use podwork_benches::{BenchOptions, Programs, run};

fn programs() -> Programs {
    Programs {
        platform: env!("CARGO_BIN_EXE_bench-platform").into(),
        worker: env!("CARGO_BIN_EXE_bench-worker").into(),
        before: None,
        floor: env!("CARGO_BIN_EXE_bench-floor").into(),
        raw: env!("CARGO_BIN_EXE_bench-raw").into(),
        hello: env!("CARGO_BIN_EXE_bench-hello").into(),
        cache: option_env!("CARGO_BIN_EXE_cache-contender")
            .unwrap_or_default()
            .into(),
        python: None,
    }
}

fn options(only: &[&str], out: PathBuf) -> BenchOptions {
    BenchOptions {
        only: only.iter().map(|&name| name.to_owned()).collect(),
        rounds: 1,
        shrink: 50,
        idle: Duration::from_millis(200),
        starts: 1,
        out,
        readme: None,
    }
}

#[test]
fn podwork_and_both_floors_run_and_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(
        &[
            "process", "noop-1", "echo-5m", "stream", "progress", "cpu", "call", "batch",
        ],
        folder.path().into(),
    );
    run(&options, &programs()).unwrap();

    let report = std::fs::read_to_string(folder.path().join("results.md")).unwrap();
    let row = |of: &str| report.lines().find(|line| line.contains(of)).unwrap();
    for case in ["no-op jobs, 1 at once", "stream of 10,000", "2 at once"] {
        let cells: Vec<&str> = row(case).split('|').map(str::trim).collect();
        let number = |place: usize| cells[place].replace(',', "").parse::<f64>().unwrap();
        assert!(number(3) > 0.0 && number(4) > 0.0, "{case}: {cells:?}");
        assert!(number(5) > 0.0, "{case}: {cells:?}");
        assert_eq!((cells[6], cells[9]), ("–", "–"), "{case}: {cells:?}");
        for ratio in [7, 8, 10, 11] {
            assert!(cells[ratio].ends_with('×'), "{case}: {cells:?}");
        }
    }
    assert!(!report.contains("before |"), "no other build was measured");
    assert!(
        !row("no-op jobs/s at 1, 10").contains("met"),
        "10 and 100 were not measured"
    );
    assert!(!row("in batches of 16: at least").contains("not measured"));
    assert!(!row("CPU when idle: below").contains("not measured"));
    for plot in ["throughput.svg", "cpu.svg", "memory.svg"] {
        let plot = std::fs::read_to_string(folder.path().join(plot)).unwrap();
        assert!(plot.contains("no-op jobs, 1 at once") && plot.contains("<rect"));
    }
}

#[test]
fn another_build_is_measured_beside_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let before = programs().worker;
    let programs = programs().against(&before, folder.path()).unwrap();
    let options = options(&["process", "noop-1"], folder.path().into());
    run(&options, &programs).unwrap();

    let report = std::fs::read_to_string(folder.path().join("results.md")).unwrap();
    let (_, ratios) = report.split_once("podwork/before\n").unwrap();
    let cells = |of: &str| -> Vec<&str> {
        let row = ratios.lines().find(|line| line.contains(of)).unwrap();
        row.split('|').map(str::trim).collect()
    };
    let noop = cells("no-op jobs, 1 at once");
    for ratio in &noop[2..6] {
        assert!(ratio.ends_with('×'), "{noop:?}");
    }
    let idle = cells("one job, then idle");
    for ratio in [idle[3], idle[5], idle[6]] {
        assert!(ratio.ends_with('×'), "{idle:?}");
    }
    assert!(report.contains("| podwork | before | floor | raw | official |"));
}

#[test]
fn a_contender_that_fails_is_told_with_its_last_words() {
    let folder = tempfile::tempdir().unwrap();
    let programs = Programs {
        worker: "/bin/false".into(),
        ..programs()
    };
    let failed = run(&options(&["noop-1"], folder.path().into()), &programs);
    let said = failed.unwrap_err().to_string();
    assert!(
        said.starts_with("noop-1, podwork: the worker exited early"),
        "{said}"
    );
}

#[cfg(feature = "cache")]
#[test]
fn a_cache_is_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    run(&options(&["cache"], folder.path().into()), &programs()).unwrap();
    let report = std::fs::read_to_string(folder.path().join("results.md")).unwrap();
    let row = |of: &str| report.lines().find(|line| line.contains(of)).unwrap();
    for step in [
        "sync to an empty volume, on disk",
        "hydrate an empty directory, on disk",
    ] {
        let cells: Vec<&str> = row(step).split('|').map(str::trim).collect();
        assert!(cells[2].ends_with('s'), "{step}: {cells:?}");
        assert_eq!((cells[3], cells[4]), ("–", "–"), "{step}: {cells:?}");
    }
}
