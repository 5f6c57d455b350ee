//! Panics in the worker's own tasks, caused by a `tracing` subscriber that panics at an event.

use std::sync::atomic::{AtomicUsize, Ordering};

use podwork_tests::{Answer, Binary, Recorded, Scripted, Started, job};
use serde_json::{Value, json};
use tokio::sync::watch;

fn echo(id: &str, value: u32) -> Value {
    job(id, json!({"do": "echo", "value": value}))
}

fn report(post: &Recorded) -> Value {
    serde_json::from_str(post.json()["error"].as_str().unwrap()).unwrap()
}

/// Starts a worker whose subscriber panics at the first event that contains the phrase. The platform hands out
/// `first`, and another job once the first has a result. `faulty` may answer other calls than polls.
async fn start(
    phrase: &str,
    first: Value,
    faulty: fn(&str, usize) -> Option<Answer>,
) -> (Scripted, Started) {
    let taken = AtomicUsize::new(0);
    let (posted, is_posted) = watch::channel(false);
    let platform = Scripted::start(move |request: &Recorded, before| {
        let call = request.call();
        match call {
            "job-take" | "job-take-batch" => match taken.fetch_add(1, Ordering::SeqCst) {
                0 => Answer::Json(200, first.clone()),
                1 => {
                    let second = Answer::Json(200, echo("second", 2));
                    Answer::When(is_posted.clone(), Box::new(second))
                }
                _ => Answer::Hold,
            },
            _ => faulty(call, before).unwrap_or_else(|| {
                if call == "job-done" {
                    posted.send_replace(true);
                }
                if call == "job-stop" {
                    Answer::Hold
                } else {
                    Answer::Status(200)
                }
            }),
        }
    })
    .await;
    let program = env!("CARGO_BIN_EXE_podwork-test-worker");
    let worker = Binary::new(program, &["panics", phrase]).env(platform.env("w"));
    let skip = [("RUNPOD_SKIP_GPU_CHECK", "true".to_owned())];
    (platform, worker.env(skip).start())
}

/// Ends the worker, and returns its posts.
async fn end(platform: &Scripted, worker: Started) -> Vec<Recorded> {
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
    platform.of("job-done")
}

fn fails_first(call: &'static str) -> impl Fn(&str, usize) -> Option<Answer> {
    move |called, before| (called == call && before == 0).then(|| Answer::Status(500))
}

#[tokio::test]
async fn a_panic_anywhere_in_a_jobs_run_ends_the_job_with_an_error() {
    let fails = job("first", json!({"do": "fail", "message": "no weights"}));
    for (phrase, first) in [
        ("Started.", echo("first", 1)),
        ("Output is ready.", echo("first", 1)),
        ("Finished.", echo("first", 1)),
        // While the job fails anyway.
        ("Failed.", fails),
    ] {
        let (platform, worker) = start(phrase, first, |_, _| None).await;
        let posts = platform.until("job-done", |posts| posts.len() == 2).await;
        let failure = report(&posts[0]);
        assert_eq!(failure["error_type"], "panic", "{phrase}");
        let message = failure["error_message"].as_str().unwrap();
        assert!(message.ends_with(": in the subscriber"), "{message}");
        assert_eq!(posts[1].json(), json!({"output": 2}), "{phrase}");
        assert_eq!(end(&platform, worker).await.len(), 2, "{phrase}");
    }
}

#[tokio::test]
async fn a_panic_at_the_start_of_a_batch_fails_its_jobs() {
    let (posted, is_posted) = watch::channel(false);
    let platform = Scripted::start(move |request: &Recorded, before| match request.call() {
        "job-take" | "job-take-batch" => match before {
            0 => Answer::Json(200, json!([job("first", "one"), job("second", "two")])),
            1 => {
                let third = Answer::Json(200, json!([job("third", "three")]));
                Answer::When(is_posted.clone(), Box::new(third))
            }
            _ => Answer::Hold,
        },
        "job-stop" => Answer::Hold,
        "job-done" if before == 1 => {
            posted.send_replace(true);
            Answer::Status(200)
        }
        _ => Answer::Status(200),
    })
    .await;
    let program = env!("CARGO_BIN_EXE_podwork-test-worker");
    let worker = Binary::new(program, &["panics", "Starting a batch.", "batch"]);
    let skip = [("RUNPOD_SKIP_GPU_CHECK", "true".to_owned())];
    let worker = worker.env(platform.env("w")).env(skip).start();
    let posts = platform.until("job-done", |posts| posts.len() == 3).await;
    for failed in &posts[..2] {
        assert_eq!(report(failed)["error_type"], "panic");
    }
    assert_eq!(posts[2].json(), json!({"output": 5}));
    assert_eq!(end(&platform, worker).await.len(), 3);
}

#[tokio::test]
async fn a_panic_in_the_delivery_ends_the_job_with_an_error() {
    let faulty = |call: &str, before| fails_first("job-done")(call, before);
    let (platform, worker) = start("Post failed", echo("first", 1), faulty).await;
    let posts = platform.until("job-done", |posts| posts.len() == 3).await;
    assert_eq!(posts[0].json(), json!({"output": 1}));
    assert_eq!(report(&posts[1])["error_type"], "panic");
    assert_eq!(posts[2].json(), json!({"output": 2}));
    assert_eq!(end(&platform, worker).await.len(), 3);
}

#[tokio::test]
async fn heartbeats_and_the_stop_channel_go_on_after_a_panic() {
    let wait = job("first", json!({"do": "wait"}));
    let faulty = |call: &str, before| fails_first("ping")(call, before);
    let (platform, worker) = start("Heartbeat failed", wait, faulty).await;
    platform.until_count("ping", 4).await;
    worker.signal("-KILL").await;

    let wait = job("first", json!({"do": "wait"}));
    let faulty = |call: &str, before| match (call, before) {
        ("job-stop", 0) => Some(Answer::Status(500)),
        ("job-stop", 1) => Some(Answer::Json(200, json!({"jobsToStop": ["first"]}))),
        _ => None,
    };
    let (platform, worker) = start("Poll of the stop channel failed", wait, faulty).await;
    // The job is cancelled.
    platform
        .until("ping", |pings| {
            let has = |ping: &Recorded| ping.param("job_id") == Some("first");
            pings.iter().any(has) && pings.last().is_some_and(|ping| !has(ping))
        })
        .await;
    assert_eq!(end(&platform, worker).await.len(), 0);
}

#[tokio::test]
async fn a_panic_in_the_poll_loop_ends_the_worker_after_its_jobs() {
    let (posting, may_post) = watch::channel(false);
    let platform =
        Scripted::start(
            move |request: &Recorded, before| match (request.call(), before) {
                ("job-take-batch", 0) => Answer::Json(200, echo("first", 1)),
                ("job-take" | "job-take-batch", _) => {
                    posting.send_replace(true);
                    Answer::Status(500)
                }
                ("job-done", _) => Answer::When(may_post.clone(), Box::new(Answer::Status(200))),
                ("job-stop", _) => Answer::Hold,
                _ => Answer::Status(200),
            },
        )
        .await;
    let program = env!("CARGO_BIN_EXE_podwork-test-worker");
    let worker = Binary::new(program, &["panics", "Poll failed"]).env(platform.env("w"));
    let skip = [("RUNPOD_SKIP_GPU_CHECK", "true".to_owned())];
    let worker = worker.env(skip).start();
    assert_eq!(worker.code().await, Some(1));
    let posts = platform.of("job-done");
    assert_eq!(posts.len(), 1);
    assert_eq!(posts[0].json(), json!({"output": 1}));
}

#[tokio::test]
async fn run_inside_an_async_runtime_says_in_one_line_what_to_write() {
    let program = env!("CARGO_BIN_EXE_podwork-test-worker");
    let complaint = Binary::new(program, &["nested"]).complaint().await;
    assert!(
        complaint.starts_with("error: `run` cannot be called inside an async runtime"),
        "{complaint}"
    );
    assert!(
        complaint.contains("`fn main() -> podwork::ExitCode`"),
        "{complaint}"
    );
    assert!(complaint.contains("`serve(shutdown).await`"), "{complaint}");
}

#[cfg(feature = "local")]
#[tokio::test]
async fn run_on_a_blocking_thread_of_a_runtime_is_fine() {
    let program = env!("CARGO_BIN_EXE_podwork-test-worker");
    let input = r#"{"input": {"do": "tls"}}"#;
    let args = ["nested-blocking", "--test_input", input];
    let output = Binary::new(program, &args).output().await;
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    // A handler may use rustls, whichever providers the program is built with.
    assert!(shown.contains("output    | true"), "{shown}");
}
