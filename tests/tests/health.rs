//! A worker that is not fit to work: by its checks, or by how its jobs end.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podwork::{Error, Result, Worker, fitness_check, handler};
use podwork_tests::{Answer, Recorded, Scripted, start};
use serde_json::{Value, json};
use tokio::sync::watch;

fn job(id: &str, input: Value) -> Value {
    json!({"id": id, "input": input})
}

/// Hands out one job, and accepts all else.
fn one_job(request: &Recorded, before: usize) -> Answer {
    match (request.call(), before) {
        ("job-take", 0) => Answer::Json(200, job("j", json!(1))),
        ("job-take" | "job-stop", _) => Answer::Hold,
        _ => Answer::Status(200),
    }
}

type Fit = watch::Sender<bool>;

#[handler]
async fn echo(input: u8, _fit: &Fit) -> u8 {
    input
}

fn is_fit(fit: &Fit) -> Result<()> {
    if *fit.borrow() {
        return Ok(());
    }
    Err("the GPU is lost".into())
}

fn unhealthy(check: &'static str, reason: &'static str) -> impl Fn(&[Recorded]) -> bool {
    move |pings| {
        pings.last().is_some_and(|ping| {
            ping.param("status") == Some("unhealthy")
                && ping.param("check") == Some(check)
                && ping
                    .param("reason")
                    .is_some_and(|said| said.contains(reason))
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_is_taken_while_the_health_check_fails() {
    let platform = Scripted::start(one_job).await;
    let fit = Fit::new(false);
    let worker = Worker::new::<echo>().state(fit.clone()).health(is_fit);
    let worker = start(worker, platform.env("w"));
    platform
        .until("ping", unhealthy("health", "the GPU is lost"))
        .await;
    assert!(platform.of("job-take").is_empty());
    fit.send_replace(true);
    platform.until("job-done", |posts| posts.len() == 1).await;
    let well = |pings: &[Recorded]| {
        pings
            .last()
            .is_some_and(|ping| ping.param("status").is_none())
    };
    platform.until("ping", well).await;
    worker.stop().await.unwrap();
}

async fn never_fit(_: &Fit) -> Result<()> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    panic!("no driver");
}

async fn never_answers(_: &Fit) -> Result<()> {
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_health_check_fails_for_too_long_ends() {
    let limit = Duration::from_millis(300);
    let new = || {
        Worker::new::<echo>()
            .state(Fit::new(true))
            .health_limit(limit)
    };
    for (worker, reason) in [
        (new().health(never_fit), "no driver"),
        (new().health(never_answers), "it does not answer"),
    ] {
        let platform = Scripted::start(one_job).await;
        let error = start(worker, platform.env("w")).ended().await.unwrap_err();
        assert!(
            matches!(&error, Error::Unhealthy { check, .. } if check == "health"),
            "{error}"
        );
        assert!(error.to_string().contains(reason), "{error}");
        platform.until("ping", unhealthy("health", reason)).await;
        assert!(platform.of("job-take").is_empty());
    }
}

#[handler]
fn breaks(how: String) -> Result<String> {
    match how.as_str() {
        "panic" => panic!("index out of bounds"),
        "memory" => Err("CUDA error: out of memory".into()),
        "input" => Err("no such file".into()),
        _ => Ok(how),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_breaks_down_again_and_again_takes_no_more() {
    let jobs = ["panic", "input", "panic", "memory", "panic", "never taken"];
    let platform = Scripted::start(move |request: &Recorded, before| match request.call() {
        "job-take" => Answer::Json(200, job(&format!("j{before}"), json!(jobs[before]))),
        "job-stop" => Answer::Hold,
        _ => Answer::Status(200),
    })
    .await;
    let worker = start(Worker::new::<breaks>().breaker(3), platform.env("w"));
    let error = worker.ended().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the worker is unhealthy (breaker): 3 jobs in a row panicked or ran out of memory"
    );
    assert_eq!(
        platform.of("job-done").len(),
        5,
        "what was taken is delivered"
    );
    assert_eq!(platform.of("job-take").len(), 5);
    platform
        .until("ping", unhealthy("breaker", "3 jobs in a row"))
        .await;
}

/// The names of the checks below, as they ran.
static RAN: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
/// Whether the second of them is to fail.
static FAILS: AtomicBool = AtomicBool::new(false);
/// One worker at a time: they all run the same checks.
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

fn set_up() -> Fit {
    SET_UP.fetch_add(1, Ordering::SeqCst);
    ran("setup");
    Fit::new(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn fitness_checks_run_in_order_before_the_set_up() {
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
async fn a_failed_fitness_check_ends_the_worker_before_it_takes_a_job() {
    let _alone = ALONE.lock().await;
    FAILS.store(true, Ordering::SeqCst);
    let set_up_before = SET_UP.load(Ordering::SeqCst);
    let platform = Scripted::start(one_job).await;
    let worker = Worker::new::<echo>().setup(set_up);
    let error = start(worker, platform.env("w")).ended().await.unwrap_err();
    FAILS.store(false, Ordering::SeqCst);
    assert_eq!(
        error.to_string(),
        "the fitness check `second_in_the_file` failed: the volume is not mounted"
    );
    let pings = platform.of("ping");
    assert!(
        unhealthy("second_in_the_file", "the volume is not mounted")(&pings),
        "{pings:#?}"
    );
    assert!(platform.of("job-take").is_empty());
    assert_eq!(SET_UP.load(Ordering::SeqCst), set_up_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_checks_heed_the_official_variables() {
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
        let worker = start(Worker::new::<echo>().state(Fit::new(true)), env);
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
        error.contains("RUNPOD_MIN_MEMORY_GB asks for 1000000"),
        "{error}"
    );
    assert_eq!(check.as_deref(), Some("memory"));

    let (error, check) = asks_for(&[("RUNPOD_MIN_DISK_PERCENT", "101")]).await;
    assert!(
        error.contains("RUNPOD_MIN_DISK_PERCENT asks for 101%"),
        "{error}"
    );
    assert_eq!(check.as_deref(), Some("disk"));

    let skipped = [
        ("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true"),
        ("RUNPOD_MIN_MEMORY_GB", "1000000"),
    ];
    assert_eq!(asks_for(&skipped).await.0, "works");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_concurrency_callback_that_panics_or_says_0_is_passed_over() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let platform = Scripted::start(move |request: &Recorded, before| match request.call() {
        "job-take" | "job-take-batch" if before < 4 => Answer::Json(
            200,
            job(&format!("{}-{before}", request.call()), json!("ok")),
        ),
        "job-take" | "job-take-batch" | "job-stop" => Answer::Hold,
        _ => Answer::Status(200),
    })
    .await;
    let worker = Worker::new::<breaks>().concurrency_with(move |_| {
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => 3,
            1 => 0,
            _ => panic!("no idea"),
        }
    });
    let worker = start(worker, platform.env("w"));
    let polls = platform
        .until("job-take-batch", |polls| polls.len() >= 3)
        .await;
    assert_eq!(polls[0].param("batch_size"), Some("3"));
    assert!(calls.load(Ordering::SeqCst) >= 3);
    worker.stop().await.unwrap();
}
