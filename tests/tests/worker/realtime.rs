//! The realtime server: a worker that answers calls directly, without a platform behind it.

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use podwork_tests::{Binary, Started, client, within_a_minute};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The number of calls that may wait for a slot.
const MAX_WAITING: usize = 64;

/// Starts a worker on a free port. Returns it and the URL of its route.
async fn start(concurrency: usize) -> (Started, String) {
    let worker = Binary::new(env!("CARGO_BIN_EXE_podwork-test-worker"), &[]).env([
        ("RUNPOD_REALTIME_PORT", "0".to_owned()),
        ("RUNPOD_REALTIME_CONCURRENCY", concurrency.to_string()),
        ("RUNPOD_ENDPOINT_ID", "e1".to_owned()),
    ]);
    let mut worker = worker.start();
    let url = worker.url("Serving realtime calls.").await;
    (worker, url.replace("0.0.0.0", "127.0.0.1"))
}

async fn call(url: &str, body: Value) -> Response {
    let call = client().post(url).json(&body).send();
    call.await.unwrap()
}

async fn json_of(response: Response) -> Value {
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_call_is_answered_with_the_result_of_its_job() {
    let (worker, url) = start(1).await;
    let task = json!({"do": "echo", "value": "now"});
    let answer = call(&url, json!({"id": "j", "input": task})).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(json_of(answer).await, json!({"output": "now"}));

    let failing = json!({"do": "fail", "message": "no luck"});
    let answer = json_of(call(&url, json!({"id": "j", "input": failing})).await).await;
    let report: Value = serde_json::from_str(answer["error"].as_str().unwrap()).unwrap();
    assert_eq!(report["error_message"], "no luck");

    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
}

#[tokio::test]
async fn the_id_of_an_answered_call_can_be_used_again() {
    let (_worker, url) = start(2).await;
    for n in 0..100 {
        let answer = call(
            &url,
            json!({"id": "j", "input": {"do": "echo", "value": n}}),
        )
        .await;
        assert_eq!(json_of(answer).await, json!({"output": n}));
    }
}

#[tokio::test]
async fn a_call_may_have_an_unusual_form() {
    let (_worker, url) = start(1).await;
    let body =
        "\u{feff}{\"id\": 7, \"webhook\": 1e400, \"input\": {\"do\": \"echo\", \"value\": 1}}";
    let answer = client().post(&url).body(body).send().await.unwrap();
    assert_eq!(json_of(answer).await, json!({"output": 1}));
    // Without an input it is `{}`, which names no task.
    let answer = call(&url, json!({"id": "j"})).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let error = json_of(answer).await["error"].to_string();
    assert!(error.contains("missing field `do`"), "{error}");
}

#[tokio::test]
async fn an_invalid_call_gets_an_error_with_the_reason() {
    let (_worker, url) = start(1).await;
    let task = json!({"do": "echo", "value": "now"});
    let answer = call(&url, json!({"input": task})).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let answer = json_of(answer).await;
    let problem = answer["error"].as_str().unwrap();
    assert!(
        problem.contains("no `id` that is a text or a number"),
        "{problem}"
    );

    let other = url.replace("/e1/realtime", "/run");
    let answer = call(&other, json!({"input": task})).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(json_of(answer).await["error"], "no such route: /run");

    let answer = client().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    let expected = "method not allowed: use POST /e1/realtime";
    assert_eq!(json_of(answer).await["error"], expected);
}

#[tokio::test]
async fn a_client_that_sends_its_whole_body_first_can_read_the_refusal() {
    let (_worker, url) = start(1).await;
    let (_, rest) = url.split_once("://").unwrap();
    let (addr, path) = rest.split_once('/').unwrap();
    let body = vec![b' '; 40_000_000];
    for (line, header, status) in [
        (format!("POST /{path}"), "X-None: 1", "413"),
        ("POST /run".to_owned(), "X-None: 1", "404"),
        (format!("PUT /{path}"), "X-None: 1", "405"),
        (format!("POST /{path}"), "Content-Encoding: gzip", "415"),
    ] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let length = body.len();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: h\r\n{header}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        let mut answer = String::new();
        within_a_minute(stream.read_to_string(&mut answer))
            .await
            .unwrap();
        assert_eq!(answer.get(9..12), Some(status), "{line}: {answer}");
    }
    // A client that waits for `100 Continue` sends nothing.
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "POST /{path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 40000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within_a_minute(stream.read_to_string(&mut answer))
        .await
        .unwrap();
    assert_eq!(answer.get(9..12), Some("413"), "{answer}");
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped() {
    let (_worker, url) = start(1).await;
    let body = "\u{feff}{\"id\": \"j\", \"input\": {\"do\": \"echo\", \"value\": 1}}";
    let answer = client().post(&url).body(body).send().await.unwrap();
    assert_eq!(json_of(answer).await, json!({"output": 1}));
}

#[tokio::test]
async fn a_second_call_of_a_running_job_is_refused() {
    let (mut worker, url) = start(2).await;
    let wait = json!({"id": "j", "input": {"do": "wait"}});
    let _running = tokio::spawn({
        let (url, wait) = (url.clone(), wait.clone());
        async move { call(&url, wait).await }
    });
    worker.line("Started.").await;
    let answer = call(&url, wait).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert_eq!(json_of(answer).await["error"], "job j is already in flight");
}

#[tokio::test]
async fn calls_beyond_the_queue_are_refused_with_429() {
    let (mut worker, url) = start(1).await;
    let wait = |id: String| call(&url, json!({"id": id, "input": {"do": "wait"}}));
    let mut calls = FuturesUnordered::new();
    calls.push(wait("running".to_owned()));
    tokio::select! {
        _ = calls.next() => panic!("it runs until the worker ends"),
        _ = worker.line("Started.") => {}
    }
    let too_many = 3;
    calls.extend((0..MAX_WAITING + too_many).map(|n| wait(format!("waiting-{n}"))));
    for _ in 0..too_many {
        let answer = calls.next().await.unwrap();
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()["retry-after"], "1");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn at_shutdown_the_running_job_is_answered_and_waiting_calls_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let (mut worker, url) = start(1).await;
    let read = json!({"id": "running", "input": {"do": "read", "path": pipe}});
    let running = call(&url, read);
    tokio::pin!(running);
    tokio::select! {
        _ = &mut running => panic!("it waits for the pipe"),
        _ = worker.line("Started.") => {}
    }
    let wait = |n| {
        call(
            &url,
            json!({"id": format!("waiting-{n}"), "input": {"do": "wait"}}),
        )
    };
    let mut waiting: FuturesUnordered<_> = (0..=MAX_WAITING).map(wait).collect();
    // One call too many: once it is refused, all others are in the queue.
    let refused = waiting.next().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    worker.signal("-TERM").await;
    while let Some(refused) = waiting.next().await {
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let problem = "the worker is shutting down";
        assert_eq!(json_of(refused).await["error"], problem);
    }
    let write = tokio::task::spawn_blocking(|| std::fs::write(pipe, "the end"));
    let answer = running.await;
    write.await.unwrap().unwrap();
    assert_eq!(json_of(answer).await, json!({"output": "the end"}));
    assert_eq!(worker.code().await, Some(0));
}
