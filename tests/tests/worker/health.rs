//! Unhealthy workers: failing health checks, and jobs that fail repeatedly.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use podwork::{Error, Result, Worker, handler};
use podwork_tests::{Answer, Recorded, Scripted, job, start};
use serde_json::json;
use tokio::sync::watch;

/// Hands out one job, holds all further polls open, and accepts all other calls.
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
async fn the_worker_ends_if_its_health_check_fails_for_too_long() {
    let limit = Duration::from_millis(300);
    let new = || {
        Worker::new::<echo>()
            .state(Fit::new(true))
            .health_limit(limit)
    };
    for (worker, reason) in [
        (new().health(never_fit), "no driver"),
        (new().health(never_answers), "the check timed out"),
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
async fn the_worker_ends_after_too_many_consecutive_failures() {
    let jobs = ["panic", "input", "panic", "memory", "panic", "never taken"];
    let platform = Scripted::start(move |request: &Recorded, before| match request.call() {
        "job-take" => Answer::Json(200, job(&format!("j{before}"), json!(jobs[before]))),
        "job-stop" => Answer::Hold,
        _ => Answer::Status(200),
    })
    .await;
    let worker = start(
        Worker::new::<breaks>().max_consecutive_failures(3),
        platform.env("w"),
    );
    let error = worker.ended().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the worker is unhealthy (breaker): 3 jobs in a row panicked, or ran out of memory or threads"
    );
    assert_eq!(
        platform.of("job-done").len(),
        5,
        "every fetched job is delivered"
    );
    assert_eq!(platform.of("job-take").len(), 5);
    platform
        .until("ping", unhealthy("breaker", "3 jobs in a row"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ignores_a_concurrency_callback_that_panics_or_returns_0() {
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
