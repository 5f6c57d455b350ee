//! The OpenAI routes of the local platform, with a worker that speaks the OpenAI API.

use std::time::Duration;

use futures::StreamExt as _;
use podwork::{Worker, handler};
use podwork_platform::{Builder, Platform};
use podwork_tests::{Running, client, openai, start, within_a_minute};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

const CHAT: &str = "/v2/local/openai/v1/chat/completions";

/// Starts a platform, and a worker that speaks the OpenAI API.
async fn started(builder: Builder) -> (Platform, Running) {
    let platform = builder.start().await.unwrap();
    let worker = Worker::new::<openai>()
        .aggregate_stream(true)
        .concurrency(4);
    let worker = start(worker, platform.worker_env("w"));
    (platform, worker)
}

fn chat(text: &str, stream: bool) -> Value {
    let messages = [json!({"role": "user", "content": text})];
    json!({"model": "parrot", "messages": messages, "stream": stream})
}

fn post(platform: &Platform, path: &str, body: &Value) -> RequestBuilder {
    client()
        .post(format!("{}{path}", platform.url()))
        .json(body)
}

async fn value(response: Response) -> Value {
    response.json().await.unwrap()
}

/// Checks that a response is an OpenAI error, and returns its message.
async fn error(request: RequestBuilder, status: u16) -> String {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    let body = value(response).await;
    let error = body["error"].as_object().unwrap();
    let members: Vec<_> = error.keys().collect();
    assert_eq!(members, ["code", "message", "param", "type"], "{body}");
    error["message"].as_str().unwrap().to_owned()
}

/// Waits until `/health` counts `count` jobs in this state.
async fn until_jobs(platform: &Platform, state: &str, count: u64) {
    let waiting = async {
        loop {
            let health = client().get(format!("{}/health", platform.url()));
            if value(health.send().await.unwrap()).await["jobs"][state] == count {
                return;
            }
        }
    };
    within_a_minute(waiting).await;
}

#[tokio::test]
async fn a_request_is_answered_with_the_object_of_its_job() {
    let (platform, worker) = started(Platform::builder()).await;
    for path in [CHAT, "/openai/v1/chat/completions"] {
        let response = post(&platform, path, &chat("hello there", false)).send();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let id = response.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        let body = value(response).await;
        assert_eq!(body["choices"][0]["message"]["content"], "hello there");
        // The job can be looked up by the id of the request.
        let status = client().get(format!("{}/status/{id}", platform.url()));
        assert_eq!(
            value(status.send().await.unwrap()).await["status"],
            "COMPLETED"
        );
    }
    let models = client().get(format!("{}/openai/v1/models", platform.url()));
    let models = value(models.send().await.unwrap()).await;
    assert_eq!(models["data"][0]["id"], "parrot");
    platform.close();
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_stream_is_passed_on_as_it_comes() {
    let (platform, worker) = started(Platform::builder()).await;
    let response = post(&platform, CHAT, &chat("one two wait", true)).send();
    let response = response.await.unwrap();
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    let mut events = response.bytes_stream();
    let mut text = String::new();
    // The third word never comes.
    while !text.contains("two") {
        let part = within_a_minute(events.next()).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&part).unwrap());
    }
    drop(events);
    // The client is gone, so the job is cancelled.
    until_jobs(&platform, "inProgress", 0).await;

    let response = post(&platform, CHAT, &chat("one two", true)).send();
    let text = response.await.unwrap().text().await.unwrap();
    let events: Vec<_> = text.split_terminator("\n\n").collect();
    assert_eq!((events.len(), events[3]), (4, "data: [DONE]"));
    let first: Value = serde_json::from_str(events[0].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(first["choices"][0]["delta"]["content"], "one ");
    platform.close();
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_disconnects_cancels_its_job() {
    let (platform, worker) = started(Platform::builder()).await;
    for streams in [false, true] {
        let request = tokio::spawn(post(&platform, CHAT, &chat("wait", streams)).send());
        until_jobs(&platform, "inProgress", 1).await;
        request.abort();
        until_jobs(&platform, "inProgress", 0).await;
    }
    // A job that waits for a worker is cancelled, too.
    worker.stop().await.unwrap();
    let request = tokio::spawn(post(&platform, CHAT, &chat("hi", false)).send());
    until_jobs(&platform, "inQueue", 1).await;
    request.abort();
    until_jobs(&platform, "inQueue", 0).await;
    platform.close();
}

#[tokio::test]
async fn errors_of_the_worker_are_openai_errors() {
    let (platform, worker) = started(Platform::builder()).await;
    let with = |model: &str, stream: bool| {
        let mut body = chat("hi", stream);
        body["model"] = model.into();
        post(&platform, CHAT, &body)
    };
    for streams in [false, true] {
        // The status and the error of the server behind the worker.
        let message = error(with("missing", streams), 404).await;
        assert_eq!(message, "the model `missing` does not exist");
        let message = error(with("broken", streams), 500).await;
        assert_eq!(message, "the model does not fit");
    }
    // After the first event, the status is out already.
    let response = post(&platform, CHAT, &chat("one break", true))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    let last: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(last["error"]["message"], "the model broke");
    platform.close();
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn refused_requests_get_openai_errors() {
    let rules = "runsync_rate=5,runsync_payload=1KB".parse().unwrap();
    let platform = Platform::builder().rules(rules).api_key("k");
    let platform = platform.start().await.unwrap();
    let hi = chat("hi", false);
    let keyed = |body: &Value| post(&platform, CHAT, body).bearer_auth("k");
    assert!(
        error(post(&platform, CHAT, &hi), 401)
            .await
            .contains("API key")
    );
    let foreign = keyed(&hi).header("Origin", "https://evil.example");
    assert!(error(foreign, 403).await.contains("evil.example"));
    let compressed = keyed(&hi).header("Content-Encoding", "gzip");
    assert!(error(compressed, 415).await.contains("uncompressed"));
    let upload = client().post(format!("{}{CHAT}", platform.url()));
    let upload = upload.bearer_auth("k").body("--x--");
    let upload = upload.header(CONTENT_TYPE, "multipart/form-data; boundary=x");
    assert!(error(upload, 415).await.contains("multipart"));
    assert!(
        error(keyed(&json!([hi])), 400)
            .await
            .contains("not a JSON object")
    );
    let large = keyed(&chat(&"x".repeat(2000), false));
    assert!(error(large, 413).await.contains("1024 bytes"));
    let unknown = CHAT.replace("local", "no%20endpoint");
    error(post(&platform, &unknown, &hi).bearer_auth("k"), 404).await;
    let wrong = client().delete(format!("{}{CHAT}", platform.url()));
    error(wrong.bearer_auth("k"), 405).await;
    let limited = loop {
        let response = keyed(&json!([])).send().await.unwrap();
        if response.status() == 429 {
            break response;
        }
        assert_eq!(response.status(), 400);
    };
    assert!(limited.headers().contains_key(RETRY_AFTER));
    assert_eq!(value(limited).await["error"]["type"], "rate_limit_error");
    // Other routes keep their own form.
    let other = client().get(format!("{}/health", platform.url()));
    assert!(value(other.send().await.unwrap()).await["error"].is_string());
}

#[handler]
async fn whole(input: Value) -> Value {
    json!({"id": 5_400_121_572_116_418_999_u64, "route": input["openai_route"]})
}

#[tokio::test]
async fn a_handler_that_does_not_stream_answers_a_streaming_client() {
    let platform = Platform::builder().start().await.unwrap();
    let worker = start(Worker::new::<whole>(), platform.worker_env("w"));
    let response = post(&platform, CHAT, &chat("hi", true))
        .send()
        .await
        .unwrap();
    assert_eq!(
        response.text().await.unwrap(),
        "data: {\"id\":5400121572116418999,\"route\":\"/v1/chat/completions\"}\n\ndata: [DONE]\n\n"
    );
    platform.close();
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_stream_whose_worker_is_lost_ends_with_an_error() {
    let platform = Platform::builder().start().await.unwrap();
    let request = tokio::spawn(post(&platform, CHAT, &chat("hi", true)).send());
    let worker = format!("{}/v2/local", platform.url());
    let take = client().get(format!("{worker}/job-take/w?job_in_progress=0"));
    let id = value(take.send().await.unwrap()).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let chunk = client().post(format!("{worker}/job-stream/w/{id}?isStream=true"));
    let chunk = chunk
        .body(r#"{"output": "data: 1\n\n"}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(chunk.status(), 200);
    let mut events = request.await.unwrap().unwrap().bytes_stream();
    assert_eq!(events.next().await.unwrap().unwrap(), "data: 1\n\n");
    // The worker is silent for too long, and the job returns to the queue.
    platform.advance(Duration::from_secs(61));
    let last = within_a_minute(events.next()).await.unwrap().unwrap();
    let last = std::str::from_utf8(&last).unwrap();
    assert!(last.contains("the worker was lost"), "{last}");
    assert!(events.next().await.is_none());
    until_jobs(&platform, "inProgress", 0).await;
    platform.close();
}
