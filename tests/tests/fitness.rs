//! Tests of fitness checks. The checks are global to a program, so these tests need a separate program.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use podwork::{Result, Worker, fitness_check, handler};
use podwork_tests::{Answer, Recorded, Scripted, start};
use serde_json::json;

/// Hands out one job, and accepts all other calls.
fn one_job(request: &Recorded, before: usize) -> Answer {
    match (request.call(), before) {
        ("job-take", 0) => Answer::Json(200, json!({"id": "j", "input": 1})),
        ("job-take" | "job-stop", _) => Answer::Hold,
        _ => Answer::Status(200),
    }
}

struct Model;

#[handler]
async fn echo(input: u8, _model: &Model) -> u8 {
    input
}

/// The names of the checks below, in the order in which they ran.
static RAN: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
/// If true, the second check fails.
static FAILS: AtomicBool = AtomicBool::new(false);
/// Lets only one worker run at a time, because all workers run the same checks.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn ran(name: &'static str) {
    RAN.lock().unwrap().push(name);
}

#[fitness_check]
async fn first_in_the_file() {
    tokio::task::yield_now().await;
    ran("first_in_the_file");
}

#[fitness_check]
fn second_in_the_file() -> Result<()> {
    ran("second_in_the_file");
    if FAILS.load(Ordering::SeqCst) {
        return Err("the volume is not mounted".into());
    }
    Ok(())
}

static SET_UP: AtomicUsize = AtomicUsize::new(0);

fn set_up() -> Model {
    SET_UP.fetch_add(1, Ordering::SeqCst);
    ran("setup");
    Model
}

#[tokio::test(flavor = "multi_thread")]
async fn fitness_checks_run_in_order_before_setup() {
    let _alone = ALONE.lock().await;
    RAN.lock().unwrap().clear();
    let platform = Scripted::start(one_job).await;
    let worker = Worker::new::<echo>()
        .setup(set_up)
        .fitness_check("licence", || ran("licence"))
        .fitness_check("network", async || {
            ran("network");
            Ok::<(), std::io::Error>(())
        });
    let worker = start(worker, platform.env("w"));
    platform.until("job-done", |posts| posts.len() == 1).await;
    worker.stop().await.unwrap();
    let expected = [
        "first_in_the_file",
        "second_in_the_file",
        "licence",
        "network",
        "setup",
    ];
    assert_eq!(*RAN.lock().unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_fitness_check_ends_the_worker_before_it_fetches_a_job() {
    let _alone = ALONE.lock().await;
    FAILS.store(true, Ordering::SeqCst);
    let set_up_before = SET_UP.load(Ordering::SeqCst);
    let platform = Scripted::start(one_job).await;
    let worker = Worker::new::<echo>().setup(set_up);
    let error = start(worker, platform.env("w")).ended().await.unwrap_err();
    FAILS.store(false, Ordering::SeqCst);
    let error = error.to_string();
    let failed =
        "the fitness check `second_in_the_file` failed: the volume is not mounted\nat tests/";
    assert!(error.starts_with(failed), "{error}");
    assert!(error.ends_with("second_in_the_file"), "{error}");
    let pings = platform.of("ping");
    assert_eq!(pings[0].param("status"), Some("unhealthy"));
    assert_eq!(pings[0].param("check"), Some("second_in_the_file"));
    assert_eq!(pings[0].param("reason"), Some("the volume is not mounted"));
    assert!(platform.of("job-take").is_empty());
    assert_eq!(SET_UP.load(Ordering::SeqCst), set_up_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_checks_respect_the_official_variables() {
    let _alone = ALONE.lock().await;
    let asks_for = async |variables: &[(&'static str, &str)]| {
        let platform = Scripted::start(one_job).await;
        let mut env = platform.env("w");
        env.retain(|(name, _)| *name != "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS");
        env.extend(
            variables
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        let worker = start(Worker::new::<echo>().state(Model), env);
        let ended = tokio::select! {
            ended = worker.ended() => ended.unwrap_err().to_string(),
            _ = platform.until("job-done", |posts| posts.len() == 1) => "works".to_owned(),
        };
        let check = platform
            .of("ping")
            .first()
            .and_then(|ping| ping.param("check").map(String::from));
        (ended, check)
    };
    let enough = [
        ("RUNPOD_MIN_DISK_PERCENT", "0"),
        ("RUNPOD_MIN_MEMORY_GB", "0.01"),
    ];
    assert_eq!(asks_for(&enough).await, ("works".to_owned(), None));

    let (error, check) = asks_for(&[("RUNPOD_MIN_MEMORY_GB", "1000000")]).await;
    assert!(
        error.contains("RUNPOD_MIN_MEMORY_GB requires 1000000"),
        "{error}"
    );
    assert_eq!(check.as_deref(), Some("memory"));

    let (error, check) = asks_for(&[("RUNPOD_MIN_DISK_PERCENT", "101")]).await;
    assert!(
        error.contains("RUNPOD_MIN_DISK_PERCENT requires 101%"),
        "{error}"
    );
    assert_eq!(check.as_deref(), Some("disk"));

    let skipped = [
        ("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true"),
        ("RUNPOD_MIN_MEMORY_GB", "1000000"),
    ];
    assert_eq!(asks_for(&skipped).await.0, "works");
}

#[cfg(feature = "local")]
#[tokio::test(flavor = "multi_thread")]
async fn a_test_worker_runs_no_fitness_checks() {
    let _alone = ALONE.lock().await;
    FAILS.store(true, Ordering::SeqCst);
    let worker = Worker::new::<echo>().setup(set_up);
    let worker = podwork::testing::TestWorker::start(worker).await.unwrap();
    let job = worker.run(json!(1)).await;
    FAILS.store(false, Ordering::SeqCst);
    assert!(job.unwrap().result.is_ok());
    worker.stop().await.unwrap();
}
