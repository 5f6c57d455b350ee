//! Unusual responses to the calls of a worker: incomplete and invalid jobs, compression, repetitions, requests to retry
//! immediately.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use podwork::{Context, Worker, handler};
use podwork_tests::{Answer, Binary, Recorded, Scripted, job, start};
use serde_json::{Value, json};

#[handler]
async fn echo(input: Value) -> Value {
    input
}

/// Reports progress, then waits until the job is cancelled.
#[handler]
async fn waits(cx: Context) {
    cx.progress("waiting");
    std::future::pending::<()>().await;
}

/// Returns a script that answers the polls with these responses in turn, and accepts all other calls.
fn polls_get(answers: Vec<Answer>) -> impl Fn(&Recorded, usize) -> Answer + Send + Sync + 'static {
    let taken = std::sync::atomic::AtomicUsize::new(0);
    move |request, _| match request.call() {
        "job-take" | "job-take-batch" => {
            let next = taken.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            answers.get(next).cloned().unwrap_or(Answer::Hold)
        }
        "job-stop" => Answer::Hold,
        _ => Answer::Status(200),
    }
}

fn raw(body: impl Into<Vec<u8>>) -> Answer {
    Answer::Raw(200, Vec::new(), body.into())
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn post_of<'a>(posts: &'a [Recorded], id: &str) -> &'a Recorded {
    let mut of = posts
        .iter()
        .filter(|post| post.headers["x-request-id"] == id);
    let post = of.next().unwrap_or_else(|| panic!("no post of {id}"));
    assert!(of.next().is_none(), "one post of {id}");
    post
}

fn error_of(post: &Recorded) -> Value {
    serde_json::from_str(post.json()["error"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_input_the_platform_dropped_runs_with_an_empty_one() {
    let answers = [
        r#"{"id":"missing"}"#,
        r#"{"id":"marked","input":{"__empty":true}}"#,
        "\u{feff} {\"webhook\":5,\"id\":\"bom\",\"policy\":\"none\"}",
        r#"[{"id":"in-a-list"},{"input":{},"s3Config":[1e400],"id":42}]"#,
    ];
    let script = polls_get(answers.into_iter().map(raw).collect());
    let platform = Scripted::start(script).await;
    let worker = start(Worker::new::<echo>(), platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 5).await;
    for id in ["missing", "marked", "bom", "in-a-list", "42"] {
        let post = post_of(&posts, id);
        assert_eq!(post.json(), json!({"output": {}}));
        assert!(post.path.ends_with(&format!("/{id}")), "{}", post.path);
    }
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_cannot_be_read_fails_with_the_reason_and_the_others_run() {
    let body = br#"[{"id":"first","input":1},
        {"id":"nan","input":{"x":NaN}},
        {"input":"x","id":null},
        {"input":"\xff","id":"bytes"},
        {"id":"last","input":2}]"#;
    let body = body.to_vec();
    let at = body.windows(4).position(|at| at == b"\\xff").unwrap();
    let body = [&body[..at], b"\xff", &body[at + 4..]].concat();
    let truncated = r#"{"id":"truncated","input":{"text":"it sto"#;
    let platform = Scripted::start(polls_get(vec![raw(body), raw(truncated)])).await;
    let worker = start(Worker::new::<echo>().concurrency(4), platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 5).await;
    assert_eq!(post_of(&posts, "first").json(), json!({"output": 1}));
    assert_eq!(post_of(&posts, "last").json(), json!({"output": 2}));
    for (id, why) in [
        ("nan", "expected value at line 1 column "),
        ("bytes", "it is not valid UTF-8"),
        ("truncated", "EOF while parsing a string"),
    ] {
        let report = error_of(post_of(&posts, id));
        assert_eq!(report["error_type"], "invalid_job");
        let message = report["error_message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_signal_may_have_an_unusual_form() {
    let signals = [
        "",
        "null",
        "\u{feff}{\"jobsToStop\":null,\"more\":[1e400]}",
        r#"{"jobsToStop":["unknown",null,7],"jobsToStop":"text"}"#,
    ];
    let (cancel, cancelled) = tokio::sync::watch::channel(false);
    let platform =
        Scripted::start(
            move |request: &Recorded, before| match (request.call(), before) {
                ("job-take-batch", 0) => raw(r#"[{"id":7},{"id":"text"}]"#),
                ("job-take" | "job-take-batch", _) => Answer::Hold,
                ("job-stop", _) => match signals.get(before) {
                    Some(signal) => Answer::When(cancelled.clone(), Box::new(raw(*signal))),
                    None => Answer::Hold,
                },
                _ => Answer::Status(200),
            },
        )
        .await;
    let worker = start(Worker::new::<waits>().concurrency(2), platform.env("w"));
    platform.until("job-done", |posts| posts.len() == 2).await;
    cancel.send(true).unwrap();
    let none = |pings: &[Recorded]| {
        pings
            .last()
            .is_some_and(|ping| ping.param("job_id").is_none())
    };
    platform.until("ping", none).await;
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_responses_are_read_although_none_was_requested() {
    let compressed = |status, encoding: &'static str, body: Vec<u8>| {
        Answer::Raw(status, vec![("Content-Encoding", encoding)], body)
    };
    let bomb = gzip(&vec![b' '; 24 * 1024 * 1024]);
    let job = |id: &str| job(id, json!("text")).to_string().into_bytes();
    let answers = vec![
        compressed(200, "gzip", gzip(&job("a"))),
        compressed(200, "X-GZIP", gzip(&job("b"))),
        compressed(200, "identity", job("c")),
        compressed(503, "gzip", gzip(b"overloaded")),
        compressed(200, "br", b"\x0b\x02\x80".to_vec()),
        compressed(200, "gzip", b"not compressed".to_vec()),
        compressed(200, "gzip", bomb),
        compressed(200, "gzip", gzip(&job("d"))),
        compressed(200, "none", job("e")),
        compressed(206, "identity, gzip", gzip(&job("f"))),
    ];
    let platform = Scripted::start(polls_get(answers)).await;
    let worker = start(Worker::new::<echo>(), platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 6).await;
    let ids: Vec<_> = posts
        .iter()
        .map(|post| post.headers["x-request-id"].as_str())
        .collect();
    assert_eq!(ids, ["a", "b", "c", "d", "e", "f"]);
    platform.until_count("ping", 1).await;
    for call in ["job-take", "job-stop", "job-done", "ping"] {
        for request in platform.of(call) {
            assert_eq!(request.headers["accept-encoding"], "identity", "{call}");
        }
    }
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_very_long_id_is_ignored_and_the_others_run() {
    let long = "x".repeat(70_000);
    let longest = "y".repeat(1024);
    let body = format!(
        r#"[{{"id":"first"}},{{"id":"{long}"}},{{"id":"{long}","input":NaN}},{{"id":"{longest}"}},{{"id":"last"}}]"#
    );
    let platform = Scripted::start(polls_get(vec![raw(body), raw(r#"{"id":"next"}"#)])).await;
    let program = env!("CARGO_BIN_EXE_podwork-test-worker");
    let mut worker = Binary::new(program, &[]).env(platform.env("w")).start();
    let line = worker.line("Ignoring what the platform returned").await;
    assert!(
        line.contains("elements=2") && line.contains("at most 1024 bytes"),
        "{line}"
    );
    assert!(line.len() < 1000, "{line}");
    let posts = platform.until("job-done", |posts| posts.len() == 4).await;
    for id in ["first", &longest, "last", "next"] {
        post_of(&posts, id);
    }
    platform.until_count("ping", 2).await;
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_name_all_jobs_however_long_their_ids_are() {
    let id = |n: usize| format!("{n:03}{}", "é".repeat(300));
    let jobs: Vec<Value> = (0..100).map(|n| job(&id(n), json!(n))).collect();
    let script = polls_get(vec![Answer::Json(200, json!(jobs))]);
    let platform = Scripted::start(script).await;
    let worker = start(Worker::new::<waits>().concurrency(100), platform.env("w"));
    let all = |pings: &[Recorded]| {
        let ids: BTreeSet<&str> = pings
            .iter()
            .filter_map(|ping| ping.param("job_id"))
            .flat_map(|ids| ids.split(','))
            .collect();
        (0..100).all(|n| ids.contains(&*id(n)))
    };
    platform.until("ping", all).await;
    drop(worker);
}

/// Answers all polls with `answer`, once a job runs. Returns the time until the worker has polled 7 times more.
async fn seven_polls_that_get(answer: Answer) -> Duration {
    let platform =
        Scripted::start(
            move |request: &Recorded, before| match (request.call(), before) {
                ("job-take-batch", 0) => raw(r#"{"id":"running"}"#),
                ("job-take" | "job-take-batch", _) => answer.clone(),
                ("job-stop", _) => Answer::Hold,
                _ => Answer::Status(200),
            },
        )
        .await;
    let began = Instant::now();
    let worker = start(Worker::new::<waits>().concurrency(2), platform.env("w"));
    // The first poll is for two jobs, the others are for one.
    platform.until_count("job-take", 7).await;
    drop(worker);
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_without_a_new_job_do_not_cause_a_flood_of_polls() {
    let answers = [
        raw("{}"),
        raw("[]"),
        raw("null"),
        raw("[{},7,{\"id\":null}]"),
        raw("\"no job\""),
        raw("<html>"),
        raw(r#"{"id":"running"}"#),
        raw(r#"[{"id":"running"},{"id":"running","input":NaN}]"#),
        raw(r#"{"id":"unreadable","input":NaN}"#),
        Answer::Status(204),
        Answer::Status(400),
        Answer::Status(404),
        Answer::Status(500),
        Answer::RetryAfter(429, 0),
        Answer::RetryAfter(503, 0),
        Answer::Drop,
    ];
    let times = answers
        .iter()
        .map(|answer| seven_polls_that_get(answer.clone()));
    let times = futures::future::join_all(times).await;
    // The pauses double from 20 ms on: 6 of them take 1.26 s.
    for (answer, time) in answers.iter().zip(times) {
        assert!(time > Duration::from_millis(1200), "{answer:?}: {time:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_are_handed_out_again_and_again_run_with_a_growing_pause() {
    let platform = Scripted::start(|request: &Recorded, before| match request.call() {
        // Also two jobs in turn, of which one fails.
        "job-take" => match before % 2 {
            0 => raw(r#"{"id":"a","input":1}"#),
            _ => raw(r#"{"id":"b","input":NaN}"#),
        },
        "job-stop" => Answer::Hold,
        _ => Answer::Status(200),
    })
    .await;
    let began = Instant::now();
    let worker = start(Worker::new::<echo>(), platform.env("w"));
    platform.until_count("job-take", 9).await;
    // After the first poll, the pauses double from 20 ms on: 6 of them take 1.26 s.
    let elapsed = began.elapsed();
    assert!(elapsed > Duration::from_millis(1200), "{elapsed:?}");
    let again = |posts: &[Recorded]| {
        let of = |id: &str| {
            posts
                .iter()
                .filter(|post| post.headers["x-request-id"] == id)
                .count()
        };
        of("a") > 2 && of("b") > 2
    };
    platform.until("job-done", again).await;
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_cannot_ask_for_a_flood_of_calls() {
    let platform = Scripted::start(
        |request: &Recorded, before| match (request.call(), before) {
            ("job-take", 0) => Answer::Json(200, job("j", json!(1))),
            _ => Answer::RetryAfter(429, 0),
        },
    )
    .await;
    let began = Instant::now();
    let worker = start(Worker::new::<echo>(), platform.env("w"));
    // Its delays double from 50 ms on: 6 of them take at least 3.1 s.
    platform.until_count("job-done", 7).await;
    let elapsed = began.elapsed();
    assert!(elapsed > Duration::from_secs(3), "{elapsed:?}");
    for (call, most_per_second) in [("job-take", 10), ("job-stop", 5), ("ping", 60)] {
        let calls = platform.of(call).len() as u64;
        let most = most_per_second * (elapsed.as_secs() + 1);
        assert!(calls <= most, "{calls} calls of {call} in {elapsed:?}");
    }
    drop(worker);
}

#[tokio::test]
async fn repeated_responses_without_a_job_are_logged_once() {
    for (answer, line) in [
        (
            "{}",
            "Ignoring what the platform returned in place of a job",
        ),
        (r#"{"id":"j"}"#, "Ignoring a duplicate delivery"),
    ] {
        let platform = Scripted::start(move |request: &Recorded, before| {
            match (request.call(), before) {
                ("job-take-batch", 0) => {
                    raw(r#"[{"id":"j","input":{"do":"progress","values":[1],"value":2}}]"#)
                }
                ("job-take" | "job-take-batch", _) => raw(answer),
                ("job-stop", _) => Answer::Hold,
                // Keeps the job in flight.
                ("job-done", _) if request.json()["status"].is_null() => Answer::Status(503),
                _ => Answer::Status(200),
            }
        })
        .await;
        let program = env!("CARGO_BIN_EXE_podwork-test-worker");
        let mut worker = Binary::new(program, &[]).env(platform.env("w")).start();
        worker.line(line).await;
        let polls = platform.of("job-take").len() + platform.of("job-take-batch").len();
        platform.until_count("job-take-batch", polls + 4).await;
        worker.signal("-KILL").await;
        while let Some(more) = worker.next_line().await {
            assert!(!more.contains(line), "{more}");
        }
    }
}
