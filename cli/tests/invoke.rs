//! Tests of `podwork invoke` against the local platform.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

mod common;

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

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
async fn a_key_is_shown_and_its_lack_is_said() {
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
async fn an_endpoint_that_has_enough_to_do_is_asked_again() {
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
