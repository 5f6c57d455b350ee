//! Tests of `podwork invoke` against the local platform and against scripted endpoints.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

mod common;

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::scripted::{Answer, Endpoint};
use common::{object, podwork, said};
use podwork::state::StateSource;
use podwork::testing::{Platform, PlatformBuilder, TestWorker};
use podwork::{Context, Result, Stream, Worker, handler, try_stream};
use serde_json::json;
use tokio::sync::Notify;

#[handler]
fn words(text: String, waits: &Arc<Notify>, cx: Context) -> impl Stream<Item = Result<String>> {
    try_stream! {
        let words: Vec<&str> = text.split(' ').collect();
        for (at, word) in words.iter().enumerate() {
            cx.progress(json!({ "word": at + 1, "of": words.len() }));
            if *word == "fail" {
                Err("the input is `fail`")?;
            }
            if *word == "wait" {
                waits.notify_one();
                cx.cancelled().await;
            }
            yield (*word).to_owned();
        }
    }
}

fn worker() -> Worker<words, impl StateSource<Arc<Notify>>> {
    Worker::new::<words>().state(Arc::default())
}

fn platform() -> PlatformBuilder {
    Platform::builder().rules("poll_hold=50ms".parse().unwrap())
}

/// Runs the tool without blocking the test's runtime.
async fn invoke(args: &[&str]) -> Output {
    let command = podwork(Path::new("."), args);
    let mut command = tokio::process::Command::from(command);
    command.output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_come_one_a_line_and_the_exit_code_is_good() {
    let platform = platform().start().await.unwrap();
    let url = platform.endpoint_url("local");
    let worker = TestWorker::start_on(platform, worker());
    let output = invoke(&[
        "invoke",
        "--stream",
        "--endpoint",
        &url,
        "--data",
        "\"to be or not\"",
    ])
    .await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(output.stdout, b"to\nbe\nor\nnot\n");
    assert!(said(&output).contains("COMPLETED | delayTime"));

    let output = invoke(&[
        "invoke",
        "--stream",
        "--json",
        "--endpoint",
        &url,
        "--data",
        "\"a b\"",
    ])
    .await;
    let object = object(&output);
    assert_eq!(object["stream"], json!(["a", "b"]));
    assert_eq!(object["status"], "COMPLETED");
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_job_is_exit_code_1_with_its_message() {
    let platform = platform().start().await.unwrap();
    let url = platform.url();
    let worker = TestWorker::start_on(platform, worker());
    let output = invoke(&[
        "invoke",
        "--stream",
        "--endpoint",
        &url,
        "--data",
        "\"a fail\"",
    ])
    .await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert_eq!(output.stdout, b"a\n", "earlier chunks are kept");
    assert!(
        said(&output).contains("the input is `fail`"),
        "{}",
        said(&output)
    );
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_times_out_is_exit_code_4() {
    let platform = platform().start().await.unwrap();
    let url = platform.url();
    let waits = Arc::new(Notify::new());
    let worker = Worker::new::<words>().state(Arc::clone(&waits));
    let worker = TestWorker::start_on(platform, worker);
    let data = r#"{"input": "wait", "policy": {"executionTimeout": 5000}}"#;
    let args = ["invoke", "--json", "--endpoint", &url, "--data", data];
    let hurrying = async {
        waits.notified().await;
        worker.platform().advance(Duration::from_secs(6));
    };
    let (output, ()) = tokio::join!(invoke(&args), hurrying);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    assert_eq!(object(&output)["status"], "TIMED_OUT");
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_key_is_sent_and_a_missing_one_is_reported() {
    let platform = platform().api_key("secret").start().await.unwrap();
    let url = platform.url();
    let worker = TestWorker::start_on(platform, worker());
    let args = ["invoke", "--endpoint", &url, "--data", "\"a\""];
    let output = invoke(&args).await;
    assert_eq!(output.status.code(), Some(5));
    assert!(
        said(&output).contains("401") && said(&output).contains("RUNPOD_API_KEY"),
        "{}",
        said(&output)
    );
    let output = invoke(&[&args[..], &["--api-key", "secret"]].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_endpoint_is_called_again() {
    let faults = "throttled=0.5,seed=3".parse().unwrap();
    let platform = platform().faults(faults).start().await.unwrap();
    let url = platform.url();
    let worker = TestWorker::start_on(platform, worker());
    let output = invoke(&[
        "invoke",
        "--stream",
        "--endpoint",
        &url,
        "--data",
        "\"a b\"",
    ])
    .await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(output.stdout, b"a\nb\n");
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn an_unreachable_endpoint_exits_with_5_and_a_hint() {
    // The listener is dropped, so the port is free.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{free}");
    let output = invoke(&["invoke", "--json", "--endpoint", &url, "--data", "1"]).await;
    assert_eq!(output.status.code(), Some(5));
    let error = object(&output)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("is `podwork dev` running?"), "{error}");
}

#[tokio::test]
async fn a_loopback_endpoint_is_called_without_a_proxy() {
    // Nothing listens on port 1.
    let proxies =
        ["HTTP_PROXY", "http_proxy", "ALL_PROXY"].map(|name| (name, "http://127.0.0.1:1"));
    let endpoint = scripted(
        r#"{"id":"j","status":"IN_QUEUE"}"#,
        &[r#"{"id":"j","status":"COMPLETED","output":1}"#],
        &[],
    );
    let port = endpoint.url().replace("http://127.0.0.1:", "");
    for host in [
        "127.0.0.1",
        "127.1",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "a.b.localhost.",
    ] {
        let url = format!("http://{host}:{port}");
        let args = ["invoke", "--json", "--endpoint", &url, "--data", "1"];
        let mut command = tokio::process::Command::from(podwork(Path::new("."), &args));
        let output = command.envs(proxies).output().await.unwrap();
        assert_eq!(output.status.code(), Some(0), "{host}: {}", said(&output));
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://a.localhost:{}", free.port());
    let output = invoke(&["invoke", "--json", "--endpoint", &url, "--data", "1"]).await;
    let error = object(&output)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("is `podwork dev` running?"), "{error}");
}

#[handler]
fn shout(text: String) -> String {
    text.to_uppercase()
}

#[handler]
fn split(text: String) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_without_chunks_is_shown_although_chunks_were_requested() {
    let outputs = async |worker: TestWorker| {
        let url = worker.platform().url();
        let args = [
            "invoke",
            "--stream",
            "--endpoint",
            &url,
            "--data",
            "\"a b\"",
        ];
        let output = invoke(&args).await;
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        worker.stop().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let start = async || platform().start().await.unwrap();
    let worker = TestWorker::start_on(start().await, Worker::new::<shout>());
    assert_eq!(outputs(worker).await, "A B\n");
    let worker = TestWorker::start_on(start().await, Worker::new::<split>());
    assert_eq!(outputs(worker).await, "[\"a\",\"b\"]\n");
}

/// Returns an endpoint with these answers to `/run`, `/status` and `/stream`, in turn; the last one is repeated.
fn scripted(
    run: &'static str,
    status: &'static [&'static str],
    stream: &'static [&'static str],
) -> Endpoint {
    Endpoint::start(move |operation, before| {
        let nth = |answers: &[&'static str]| answers[before.min(answers.len() - 1)];
        match operation {
            "run" => Answer::ok(run),
            "status" => Answer::ok(nth(status)),
            "stream" if !stream.is_empty() => Answer::ok(nth(stream)),
            "cancel" => Answer::Http("204 No Content", Vec::new(), String::new()),
            _ => Answer::status("404 Not Found", "no such operation"),
        }
    })
}

const RUN: &str = r#"{"id": "j/1", "status": "IN_QUEUE"}"#;

#[tokio::test]
async fn an_answer_needs_only_what_the_tool_uses() {
    let odd = scripted(
        r#"{"id": "j/1", "status": "WARMING", "eta": 3}"#,
        &[
            r#"{"status": "RUNNING", "delayTime": 12.5, "workerId": 7, "retries": 1}"#,
            r#"{"id": null, "status": "THROTTLED", "delayTime": "soon"}"#,
            r#"{"status": "COMPLETED", "delayTime": 12.5, "executionTime": -1, "output": 5400121572116418999123}"#,
        ],
        &[
            r#"{"status": "RUNNING", "stream": null}"#,
            r#"{"status": "RUNNING", "stream": [{"output": "a", "metrics": {}}]}"#,
            r#"{"status": "COMPLETED"}"#,
        ],
    );
    let args = [
        "invoke",
        "--json",
        "--stream",
        "--endpoint",
        &odd.url(),
        "--data",
        "1",
    ];
    let output = invoke(&args).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(text.contains("5400121572116418999123"), "{text}");
    let shown = object(&output);
    assert_eq!(
        (
            &shown["id"],
            &shown["delayTime"],
            &shown["executionTime"],
            &shown["stream"]
        ),
        (&json!("j/1"), &json!(13), &json!(0), &json!(["a"]))
    );
    assert!(
        odd.calls()
            .iter()
            .any(|call| call.starts_with("GET /v2/e/status/j%2F1"))
    );
}

#[tokio::test]
async fn a_job_that_is_not_known_at_once_is_requested_again() {
    let late = Endpoint::start(|operation, before| match (operation, before) {
        ("run", _) => Answer::ok(RUN),
        ("status" | "stream", 0 | 1) => {
            Answer::status("404 Not Found", r#"{"error": "job not found"}"#)
        }
        ("status", _) => Answer::ok(r#"{"status": "COMPLETED", "output": "done"}"#),
        _ => Answer::ok(r#"{"status": "COMPLETED", "stream": []}"#),
    });
    let output = invoke(&[
        "invoke",
        "--stream",
        "--endpoint",
        &late.url(),
        "--data",
        "1",
    ])
    .await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(output.stdout, b"done\n");
}

#[tokio::test]
async fn an_endpoint_without_streams_shows_its_output() {
    let plain = scripted(RUN, &[r#"{"status": "COMPLETED", "output": [1,2]}"#], &[]);
    let output = invoke(&[
        "invoke",
        "--stream",
        "--endpoint",
        &plain.url(),
        "--data",
        "1",
    ])
    .await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(output.stdout, b"[1,2]\n");
}

#[tokio::test]
async fn chunks_after_the_last_are_bounded() {
    let chunk = r#"{"status": "COMPLETED", "stream": [{"output": "again"}]}"#;
    let never = r#"{"status": "IN_PROGRESS", "stream": []}"#;
    for (stream, limit) in [(chunk, 110), (never, 10)] {
        let endless = Endpoint::start(move |operation, _| match operation {
            "run" => Answer::ok(RUN),
            "stream" => Answer::ok(stream),
            _ => Answer::ok(r#"{"status": "COMPLETED", "output": []}"#),
        });
        let args = [
            "invoke",
            "--stream",
            "--endpoint",
            &endless.url(),
            "--data",
            "1",
        ];
        let output = invoke(&args).await;
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(
            said(&output).contains("there may be more chunks"),
            "{}",
            said(&output)
        );
        assert!(
            endless.count("stream") < limit,
            "{}",
            endless.count("stream")
        );
    }
}

#[tokio::test]
async fn a_stream_that_fails_does_not_hide_the_output() {
    let cases = [
        (Answer::status("400 Bad Request", "no"), "400 Bad Request"),
        (
            Answer::status("405 Method Not Allowed", ""),
            "405 Method Not Allowed",
        ),
        (
            Answer::status("500 Internal Server Error", "no"),
            "500 Internal Server Error",
        ),
        (Answer::status("204 No Content", ""), "not JSON but empty"),
        (Answer::ok("<html>"), "an HTML page"),
        (Answer::ok("null"), "invalid type: null"),
        (Answer::ok("{}"), "there may be more chunks"),
        (
            Answer::ok(r#"{"status": null}"#),
            "there may be more chunks",
        ),
        (Answer::ok("[]"), "there may be more chunks"),
        (Answer::Hold, "no answer within 3s"),
    ];
    for (answer, words) in cases {
        let failing = Endpoint::start(move |operation, _| match operation {
            "run" => Answer::ok(RUN),
            "stream" => answer.clone(),
            _ => Answer::ok(r#"{"status": "COMPLETED", "output": "done"}"#),
        });
        let url = failing.url();
        let args = ["invoke", "--stream", "--endpoint", &url, "--data", "1"];
        let started = std::time::Instant::now();
        let output = invoke(&args).await;
        assert_eq!(output.status.code(), Some(0), "{words}: {}", said(&output));
        assert_eq!(output.stdout, b"done\n");
        assert!(
            said(&output).contains("the stream did not end") && said(&output).contains(words),
            "{words}: {}",
            said(&output)
        );
        assert!(started.elapsed() < Duration::from_secs(20), "{words}");
    }
}

#[tokio::test]
async fn chunks_without_a_status_are_shown() {
    for first in [
        r#"{"stream": [{"output": "a"}, {"output": "b"}]}"#,
        r#"{"status": null, "stream": [{"output": "a"}, {"output": "b"}]}"#,
        r#" [{"output": "a"}, "b"]"#,
    ] {
        let odd = Endpoint::start(move |operation, before| match (operation, before) {
            ("run", _) => Answer::ok(RUN),
            ("stream", 0) => Answer::ok("<html>"),
            ("stream", 1) => Answer::ok(first),
            ("stream", _) => Answer::ok(r#"{"status": "FAILED"}"#),
            _ => Answer::ok(r#"{"status": "FAILED", "error": "no more"}"#),
        });
        let url = odd.url();
        let args = ["invoke", "--stream", "--endpoint", &url, "--data", "1"];
        let output = invoke(&args).await;
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert_eq!(output.stdout, b"a\nb\n", "{first}: {}", said(&output));
        assert!(!said(&output).contains("may be more"), "{}", said(&output));
    }
}

#[tokio::test]
async fn an_error_that_is_no_unicode_is_shown() {
    let answer =
        r#"{"id":"j1","status":"FAILED","error":"cannot open \udcff.png","delayTime":1e400}"#;
    let endpoint = Endpoint::start(move |operation, _| match operation {
        "run" => Answer::ok(r#"{"id": 7, "status": null}"#),
        _ => Answer::ok(answer),
    });
    let output = invoke(&["invoke", "--endpoint", &endpoint.url(), "--data", "1"]).await;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let words = "cannot open \u{fffd}";
    assert!(said(&output).contains(words), "{}", said(&output));
    assert!(endpoint.calls()[1].starts_with("GET /v2/e/status/7"));
}

#[tokio::test]
async fn malformed_headers_are_tolerated() {
    let endpoint = Endpoint::start(|operation, _| {
        let answer = match operation {
            "run" => Answer::ok(RUN),
            _ => Answer::ok(r#"{"status": "COMPLETED", "output": 7}"#),
        };
        let answer = answer.header("X-Space : 1").header("X-Long: a\r\n b");
        answer.header("no colon").header("X(odd): 1")
    });
    let output = invoke(&["invoke", "--endpoint", &endpoint.url(), "--data", "1"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(output.stdout, b"7\n");
}

#[tokio::test]
async fn a_status_that_is_unreadable_once_is_requested_again() {
    let odd = Endpoint::start(|operation, before| match (operation, before) {
        ("run", _) => Answer::ok(RUN),
        (_, 0) => Answer::ok("null"),
        (_, 1) => Answer::ok("{}"),
        (_, 2) => Answer::ok("<html>"),
        (_, 3) => Answer::status("204 No Content", ""),
        _ => Answer::ok(r#"{"status": "COMPLETED", "output": 7}"#),
    });
    let output = invoke(&["invoke", "--endpoint", &odd.url(), "--data", "1"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(odd.count("status"), 5);
}

#[tokio::test]
async fn invalid_arguments_are_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let utf_16 = folder.path().join("utf-16.json");
    std::fs::write(&utf_16, b"\xff\xfe1\0").unwrap();
    let utf_16 = format!("@{}", utf_16.display());
    for (args, words) in [
        (["--data", "{bad"].as_slice(), "--data is not valid JSON"),
        (&["--data", ""], "--data is not valid JSON"),
        (&["--data", "@no/such"], "cannot read no/such"),
        (&["--data", "@."], "cannot read ."),
        (&["--data", &utf_16], "is not UTF-8 text"),
        (&[], "cannot read test_input.json"),
        (
            &["--data", r#"{"model": "bge", "input": "hello"}"#],
            "unknown field `model`",
        ),
        (
            &[
                "--data",
                r#"{"input": 1, "policy": {"executionTimout": 1}}"#,
            ],
            "unknown field `executionTimout`",
        ),
        (
            &["--data", r#"{"input": 1, "policy": {"ttl": "1h"}}"#],
            "invalid type",
        ),
        (&["--data", "1", "--endpoint", ""], "the endpoint is empty"),
        (
            &["--data", "1", "--endpoint", "ftp://h/v2/e"],
            "is not an http or https URL",
        ),
        (
            &["--data", "1", "--endpoint", "https://api.runpod.ai/v2"],
            "names no endpoint",
        ),
        (&["--data", "1", "--api-key", "a\nb"], "invalid API key"),
        (&["--nonsense"], "unexpected argument"),
    ] {
        let output = podwork(folder.path(), &[&["invoke"], args].concat())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{args:?}: {}", said(&output));
    }
}

#[tokio::test]
async fn a_member_of_a_request_without_an_input_is_mentioned() {
    let endpoint = scripted(RUN, &[r#"{"status": "COMPLETED", "output": 1}"#], &[]);
    let data = r#"{"inptu": 1, "policy": {"ttl": 20000}}"#;
    let output = invoke(&["invoke", "--endpoint", &endpoint.url(), "--data", data]).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(
        said(&output).contains("note: --data has no key `input`"),
        "{}",
        said(&output)
    );
    assert!(
        endpoint.calls()[0].ends_with(&format!(r#"{{"input":{data}}}"#)),
        "{:?}",
        endpoint.calls()
    );
}

#[tokio::test]
async fn a_proxys_page_is_one_line_of_the_error() {
    let page = "<html>\n<head><title>413 Request Entity\nToo Large</title></head>";
    for (answer, words) in [
        (
            Answer::status("413 Payload Too Large", page),
            "answered 413 Payload Too Large: an HTML page, `413 Request Entity Too Large`",
        ),
        (
            Answer::ok("<!doctype html><title>Sign in</title>"),
            "not JSON but an HTML page, `Sign in`",
        ),
        (
            Answer::ok(r#"{"status": "IN_QUEUE"}"#),
            "missing field `id`",
        ),
        (
            Answer::ok(r#"{"id": "", "status": "IN_QUEUE"}"#),
            "without a job id",
        ),
        (
            Answer::status("400 Bad Request", r#"{"error": {"code": 7}}"#),
            r#"{"code":7}"#,
        ),
        (
            Answer::status("301 Moved Permanently", page)
                .header("Location: https://elsewhere.example/v2/e/run"),
            "a redirect to https://elsewhere.example/v2/e/run; pass the final address with --endpoint",
        ),
    ] {
        let endpoint = Endpoint::start(move |_, _| answer.clone());
        let output = invoke(&[
            "invoke",
            "--json",
            "--endpoint",
            &endpoint.url(),
            "--data",
            "1",
        ])
        .await;
        assert_eq!(output.status.code(), Some(5), "{}", said(&output));
        let error = object(&output)["error"].as_str().unwrap().to_owned();
        assert!(error.contains(words) && !error.contains('\n'), "{error}");
        // In particular, a redirect has not become a GET.
        assert_eq!(endpoint.calls().len(), 1, "{:?}", endpoint.calls());
    }
}

#[tokio::test]
async fn a_redirect_that_keeps_the_call_is_followed_at_the_same_server() {
    let moved = Endpoint::start(|operation, _| match operation {
        "run" => Answer::status("307 Temporary Redirect", "").header("Location: /v2/e/queue"),
        "queue" => Answer::ok(RUN),
        "status" => Answer::status("308 Permanent Redirect", "").header("Location: /v2/e/state"),
        _ => Answer::ok(r#"{"status": "COMPLETED", "output": 7}"#),
    });
    let output = invoke(&["invoke", "--endpoint", &moved.url(), "--data", "1"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        moved
            .calls()
            .contains(&r#"POST /v2/e/queue {"input":1}"#.to_owned()),
        "{:?}",
        moved.calls()
    );

    let other = scripted(RUN, &[r#"{"status": "COMPLETED", "output": 7}"#], &[]);
    let to = format!("Location: {}/run", other.url());
    let moved =
        Endpoint::start(move |_, _| Answer::status("307 Temporary Redirect", "").header(&to));
    let output = invoke(&["invoke", "--endpoint", &moved.url(), "--data", "1"]).await;
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(other.calls().is_empty(), "the key stays with the endpoint");

    let circle = Endpoint::start(|_, _| {
        Answer::status("307 Temporary Redirect", "").header("Location: /v2/e/run")
    });
    let output = invoke(&["invoke", "--endpoint", &circle.url(), "--data", "1"]).await;
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(circle.calls().len() < 10);
}

#[tokio::test]
async fn retry_after_is_respected_and_bounded() {
    let busy = Endpoint::start(|operation, before| match (operation, before) {
        ("run", 0) => Answer::status("429 Too Many Requests", "").header("Retry-After: 1"),
        ("status", 0) => Answer::status("502 Bad Gateway", "<html>").header("Retry-After: 1"),
        ("run", _) => Answer::ok(RUN),
        _ => Answer::ok(r#"{"status": "COMPLETED", "output": 7}"#),
    });
    let started = std::time::Instant::now();
    let output = invoke(&["invoke", "--endpoint", &busy.url(), "--data", "1"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(
        started.elapsed() >= Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert_eq!((busy.count("run"), busy.count("status")), (2, 2));

    let closed = Endpoint::start(|_, _| {
        Answer::status("503 Service Unavailable", "").header("Retry-After: 3600")
    });
    let output = invoke(&["invoke", "--endpoint", &closed.url(), "--data", "1"]).await;
    assert_eq!(output.status.code(), Some(5));
    assert!(
        said(&output).contains("retry after 3600 s"),
        "{}",
        said(&output)
    );
    assert_eq!(closed.calls().len(), 1);
}

#[tokio::test]
async fn an_answer_without_an_end_is_an_error() {
    let endless = Endpoint::start(|operation, _| match operation {
        "run" => Answer::ok(RUN),
        _ => Answer::Endless,
    });
    let output = invoke(&["invoke", "--endpoint", &endless.url(), "--data", "1"]).await;
    assert_eq!(output.status.code(), Some(5));
    let words = "is larger than 256 MB";
    assert!(said(&output).contains(words), "{}", said(&output));
    assert_eq!(endless.count("status"), 1);
}

#[tokio::test]
async fn an_unknown_result_names_the_job() {
    let gone = Endpoint::start(|operation, _| match operation {
        "run" => Answer::ok(RUN),
        _ => Answer::status("401 Unauthorized", ""),
    });
    let args = ["invoke", "--endpoint", &gone.url(), "--data", "1"];
    let output = invoke(&args).await;
    assert_eq!(output.status.code(), Some(5));
    assert!(
        said(&output).contains("job j/1 may still be running"),
        "{}",
        said(&output)
    );
    let output = invoke(&[&args[..], &["--json"]].concat()).await;
    assert_eq!(object(&output)["id"], "j/1");
}

/// Starts the tool, waits for the first call of an operation, sends signals, and returns the exit code and what the tool
/// said.
#[cfg(unix)]
async fn interrupted(
    endpoint: &Endpoint,
    args: &[&str],
    operation: &str,
    output: Stdio,
    signals: &[&str],
) -> (Option<i32>, String) {
    let url = endpoint.url();
    let args = [&["invoke", "--endpoint", &url, "--data", "1"], args].concat();
    let mut command = podwork(Path::new("."), &args);
    command.stdout(output).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    let child = command.kill_on_drop(true).spawn().unwrap();
    let id = child.id().unwrap().to_string();
    // The endpoint and the tool do not need this thread.
    endpoint.until_called(operation);
    for signal in signals {
        let mut kill = tokio::process::Command::new("kill");
        assert!(
            kill.args([signal, id.as_str()])
                .status()
                .await
                .unwrap()
                .success()
        );
    }
    // Far less than the 100 s that a call may take.
    let ended = tokio::time::timeout(Duration::from_mins(1), child.wait_with_output());
    let output = ended.await.expect("the tool ends").unwrap();
    (output.status.code(), said(&output))
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_cancels_the_job_and_ends_the_tool() {
    // The endpoint confirms the cancellation. `timeout` sends its signal twice.
    for signals in [["-INT"].as_slice(), &["-TERM"], &["-TERM", "-TERM"]] {
        let endpoint = Endpoint::start({
            let cancelled = std::sync::atomic::AtomicBool::new(false);
            move |operation, _| match operation {
                "run" => Answer::ok(RUN),
                "cancel" => {
                    cancelled.store(true, std::sync::atomic::Ordering::SeqCst);
                    Answer::Http("204 No Content", Vec::new(), String::new())
                }
                _ if cancelled.load(std::sync::atomic::Ordering::SeqCst) => {
                    Answer::ok(r#"{"status": "CANCELLED"}"#)
                }
                _ => Answer::ok(r#"{"status": "RUNNING"}"#),
            }
        });
        let (code, said) =
            interrupted(&endpoint, &["--stream"], "status", Stdio::null(), signals).await;
        assert_eq!(code, Some(3), "{signals:?}: {said}");
        assert_eq!(endpoint.count("cancel"), 1);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_the_tool_whatever_the_endpoint_does() {
    let running = r#"{"status": "IN_PROGRESS", "stream": [{"output": "again"}]}"#;
    let unheeding = || {
        Endpoint::start(move |operation, _| match operation {
            "run" => Answer::ok(RUN),
            _ => Answer::ok(running),
        })
    };
    let silent = || {
        Endpoint::start(move |operation, _| match operation {
            "run" => Answer::ok(RUN),
            _ => Answer::Hold,
        })
    };
    let refusing = || {
        Endpoint::start(move |operation, _| match operation {
            "run" => Answer::ok(RUN),
            "cancel" => Answer::status("403 Forbidden", ""),
            _ => Answer::ok(running),
        })
    };
    for (signal, expected) in [("-INT", 130), ("-TERM", 143)] {
        for endpoint in [unheeding(), silent(), refusing()] {
            let (args, signals) = (["--stream"], [signal]);
            let run = interrupted(&endpoint, &args, "status", Stdio::null(), &signals);
            let (code, said) = run.await;
            assert_eq!(code, Some(expected), "{said}");
            assert!(said.contains("job j/1 may still be running"), "{said}");
            assert_eq!(endpoint.count("cancel"), 1);
        }
    }
    let endpoint = Endpoint::start(|_, _| Answer::Hold);
    let (code, said) = interrupted(&endpoint, &[], "run", Stdio::null(), &["-TERM"]).await;
    assert_eq!(code, Some(143));
    assert!(said.contains("interrupted while submitting"), "{said}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_the_tool_although_nobody_reads_its_output() {
    let chunk = format!(
        r#"{{"status": "IN_PROGRESS", "stream": [{{"output": "{}"}}]}}"#,
        "a".repeat(200_000)
    );
    let endpoint = Endpoint::start(move |operation, _| match operation {
        "run" => Answer::ok(RUN),
        "stream" => Answer::ok(&chunk),
        _ => Answer::ok(r#"{"status": "IN_PROGRESS"}"#),
    });
    // The chunk is larger than the pipe.
    let (_read, write) = std::io::pipe().unwrap();
    let (code, said) =
        interrupted(&endpoint, &["--stream"], "stream", write.into(), &["-TERM"]).await;
    assert_eq!(code, Some(143), "{said}");
}
