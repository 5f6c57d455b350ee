//! The rules of the local platform over real HTTP: keys, rate limits, webhooks, time limits and injected faults.

use std::time::Duration;

use futures::StreamExt as _;
use podwork::{Worker, handler};
use podwork_platform::{Builder, Faults, JobEvent, Platform, RunRequest};
use podwork_tests::{Answer, Recorded, Scripted, client, ended, start};
use reqwest::StatusCode;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_mins(1);

#[handler]
async fn echo(input: Value) -> Value {
    input
}

#[handler]
async fn fails() -> podwork::Result<()> {
    Err("not today".into())
}

fn request(input: Value) -> RunRequest {
    serde_json::from_value(json!({ "input": input })).unwrap()
}

/// Sends a request, with this key if there is one, and returns the status and the body.
async fn call(
    platform: &Platform,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: &Value,
) -> (StatusCode, Value) {
    let method = method.parse().unwrap();
    let mut request = client().request(method, format!("{}{path}", platform.url()));
    if let Some(key) = key {
        request = request.header("Authorization", key);
    }
    let response = request.body(body.to_string()).send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

#[tokio::test]
async fn each_endpoint_has_a_queue_and_rules_of_its_own() {
    let builder = Platform::builder()
        .rules("run_rate=0,run_payload=1KB".parse().unwrap())
        .endpoint_rules(
            "small",
            "run_payload=50,ttl_range=1s..2s,jobs=2".parse().unwrap(),
        );
    let platform = builder.start().await.unwrap();
    let large = json!({"input": "x".repeat(100)});
    let lives = json!({"input": 1, "policy": {"ttl": 1500}});
    for (path, body, expected) in [
        ("/v2/small/run", &large, 413),
        ("/v2/other/run", &large, 200),
        ("/run", &large, 200),
        ("/run", &lives, 400),
        ("/v2/small/run", &lives, 200),
        ("/v2/small/run", &json!({"input": 2}), 200),
        ("/v2/small/run", &json!({"input": 3}), 429),
    ] {
        let (status, said) = call(&platform, "POST", path, None, body).await;
        assert_eq!(status, expected, "{path} {body}: {said}");
    }
    for (path, queued) in [
        ("/v2/small/health", 2),
        ("/v2/other/health", 1),
        ("/health", 1),
    ] {
        let (_, health) = call(&platform, "GET", path, None, &Value::Null).await;
        assert_eq!(health["jobs"]["inQueue"], queued, "{path}");
    }
}

#[tokio::test]
async fn the_description_has_every_operation() {
    let platform = Platform::builder().api_key("key").start().await.unwrap();
    // The description needs no key. `tests/interop` validates its content with independent tools.
    let (status, description) = call(&platform, "GET", "/openapi.json", None, &Value::Null).await;
    assert_eq!(status, 200);
    for (path, method) in [
        ("run", "post"),
        ("runsync", "post"),
        ("status/{job}", "get"),
        ("status-sync/{job}", "get"),
        ("stream/{job}", "get"),
        ("cancel/{job}", "post"),
        ("retry/{job}", "post"),
        ("purge-queue", "post"),
        ("health", "get"),
    ] {
        let operation = &description["paths"][format!("/v2/{{endpoint}}/{path}")][method];
        assert!(operation["summary"].is_string(), "{method} {path}");
        assert!(operation["responses"]["200"].is_object(), "{method} {path}");
    }
    let (status, page) = call(&platform, "GET", "/docs", None, &Value::Null).await;
    assert_eq!(status, 200);
    assert!(page.as_str().unwrap().contains("/openapi.json"));
}

#[tokio::test]
async fn clients_and_workers_must_send_their_keys() {
    let builder = Platform::builder()
        .api_key("client-key")
        .worker_key("worker-key");
    let platform = builder.start().await.unwrap();
    let job = json!({"input": 1});
    let take = "/v2/local/job-take/w?job_in_progress=0";
    for (method, path, key, expected) in [
        ("POST", "/v2/local/run", None, 401),
        ("POST", "/run", Some("client-keys"), 401),
        ("POST", "/run", Some("Bearer worker-key"), 401),
        ("POST", "/run", Some("Bearer client-key"), 200),
        ("POST", "/run", Some("bearer client-key"), 200),
        ("POST", "/run", Some("BEARER client-key"), 200),
        ("POST", "/run", Some("Basic client-key"), 401),
        ("POST", "/run", Some("Bearer"), 401),
        ("POST", "/v2/other/run", Some("client-key"), 200),
        ("GET", "/health", None, 401),
        ("GET", take, None, 401),
        ("GET", take, Some("client-key"), 401),
        ("GET", take, Some("worker-key"), 200),
        ("GET", take, Some("bearer worker-key"), 200),
    ] {
        let (status, body) = call(&platform, method, path, key, &job).await;
        assert_eq!(status, expected, "{method} {path} with {key:?}: {body}");
        if expected == 401 {
            assert!(
                body["error"].as_str().unwrap().contains("Authorization"),
                "{body}"
            );
        }
    }

    // The platform accepts a worker with the environment variables that it provides.
    let worker = start(Worker::new::<echo>(), platform.worker_env("w1"));
    let id = platform.submit(request(json!("in"))).unwrap();
    assert_eq!(ended(&platform, &id).await.output.unwrap().get(), "\"in\"");
    platform.close();
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_sends_the_clients_key_if_workers_have_none() {
    let platform = Platform::builder()
        .api_key("one-key")
        .start()
        .await
        .unwrap();
    let worker = start(Worker::new::<echo>(), platform.worker_env("w1"));
    let id = platform.submit(request(json!(1))).unwrap();
    assert_eq!(ended(&platform, &id).await.output.unwrap().get(), "1");
    platform.close();
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn calls_over_the_rate_limit_get_retry_after() {
    let platform = Platform::builder()
        .rules("run_rate=2,runsync_rate=0".parse().unwrap())
        .start()
        .await
        .unwrap();
    let job = json!({"input": 1});
    let url = format!("{}/run", platform.url());
    let http = client();
    let mut statuses = Vec::new();
    let mut again = None;
    for _ in 0..4 {
        let response = http.post(&url).body(job.to_string()).send().await.unwrap();
        statuses.push(response.status().as_u16());
        again = again.or_else(|| response.headers().get("Retry-After").cloned());
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(again.unwrap(), "1");
    // Other operations and other endpoints have their own limits.
    let (status, _) = call(&platform, "GET", "/health", None, &job).await;
    assert_eq!(status, 200);
    let (status, _) = call(&platform, "POST", "/v2/other/run", None, &job).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_webhook_gets_the_status_of_a_job_that_ended_in_any_way() {
    let hooks = Scripted::start(|_: &Recorded, _| Answer::Status(200)).await;
    let platform = Platform::builder().start().await.unwrap();
    let submit = |endpoint: &str| {
        let body = json!({"input": "hello", "webhook": hooks.url()});
        let (platform, path) = (&platform, format!("/v2/{endpoint}/run"));
        async move {
            let (status, body) = call(platform, "POST", &path, None, &body).await;
            assert_eq!(status, 200, "{body}");
            body["id"].as_str().unwrap().to_owned()
        }
    };
    let told = async |id: &str, count| {
        let calls = hooks.until("", |calls| calls.len() == count).await;
        let last = calls.last().unwrap();
        assert_eq!(last.method, "POST");
        assert_eq!(last.headers["content-type"], "application/json");
        assert_eq!(last.json()["id"], id);
        last.json()
    };

    let worker = start(Worker::new::<echo>(), platform.worker_env("w1"));
    let id = submit("local").await;
    let status = told(&id, 1).await;
    assert_eq!(
        (&status["status"], &status["output"]),
        (&json!("COMPLETED"), &json!("hello"))
    );
    assert!(
        status["executionTime"].is_u64() && status["delayTime"].is_u64(),
        "{status}"
    );
    worker.stop().await.unwrap();

    let worker = start(Worker::new::<fails>(), platform.worker_env("w2"));
    let id = submit("local").await;
    let status = told(&id, 2).await;
    assert_eq!(status["status"], "FAILED");
    assert!(
        status["error"].as_str().unwrap().contains("not today"),
        "{status}"
    );
    worker.stop().await.unwrap();

    let id = submit("local").await;
    call(
        &platform,
        "POST",
        &format!("/cancel/{id}"),
        None,
        &Value::Null,
    )
    .await;
    assert_eq!(told(&id, 3).await["status"], "CANCELLED");

    let body = json!({"input": 1, "webhook": "ftp://h/"});
    let (status, body) = call(&platform, "POST", "/run", None, &body).await;
    assert_eq!(status, 400);
    assert_eq!(
        body["error"],
        "invalid `webhook` URL `ftp://h/`: unsupported scheme `ftp`, use http or https"
    );
}

#[tokio::test]
async fn a_webhook_call_is_known_by_its_id_and_its_signature() {
    // The first attempt of the first call fails.
    let hooks = Scripted::start(|_: &Recorded, n| Answer::Status(if n == 0 { 503 } else { 200 }));
    let hooks = hooks.await;
    let builder = Platform::builder().webhook_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let platform = builder.start().await.unwrap();
    for _ in 0..2 {
        let body = json!({"input": "hello", "webhook": hooks.url()});
        let (_, body) = call(&platform, "POST", "/run", None, &body).await;
        let cancel = format!("/cancel/{}", body["id"].as_str().unwrap());
        call(&platform, "POST", &cancel, None, &Value::Null).await;
    }
    hooks.until("", |calls| calls.len() >= 2).await;
    platform.advance(Duration::from_secs(10));
    let calls = hooks.until("", |calls| calls.len() == 3).await;
    let ids: Vec<_> = calls
        .iter()
        .map(|call| call.headers["webhook-id"].clone())
        .collect();
    assert_ne!(ids[0], ids[1], "two jobs");
    assert_eq!(ids[0], ids[2], "a retry of the same call");
    for call in &calls {
        let timestamp = &call.headers["webhook-timestamp"];
        assert!(timestamp.parse::<u64>().is_ok(), "{timestamp}");
        let signature = &call.headers["webhook-signature"];
        assert!(
            signature.starts_with("v1,") && signature.len() == 47,
            "{signature}"
        );
    }

    let odd = Platform::builder().webhook_secret("whsec_no base64");
    let error = odd.start().await.unwrap_err().to_string();
    assert!(
        error.starts_with("webhook secret: invalid base64"),
        "{error}"
    );
}

/// Submits a job, takes it as a worker without finishing it, and returns its id.
async fn taken(platform: &Platform, policy: Value) -> String {
    let body = json!({"input": 1, "policy": policy});
    let (_, body) = call(platform, "POST", "/run", None, &body).await;
    let take = "/v2/local/job-take/w?job_in_progress=0";
    let (_, job) = call(platform, "GET", take, None, &Value::Null).await;
    assert_eq!(job["id"], body["id"]);
    body["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn advancing_the_clock_shows_the_effects_of_time() {
    let platform = Platform::builder().start().await.unwrap();
    let status_of = async |id: &str| {
        let (code, body) = call(
            &platform,
            "GET",
            &format!("/status/{id}"),
            None,
            &Value::Null,
        )
        .await;
        (
            code.as_u16(),
            body["status"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let is = |code: u16, status: &str| (code, status.to_owned());

    // The platform keeps a result for 30 minutes.
    let id = taken(&platform, json!({})).await;
    let done = format!("/v2/local/job-done/w/{id}?isStream=false");
    call(&platform, "POST", &done, None, &json!({"output": 1})).await;
    platform.advance(MINUTE * 29);
    assert_eq!(status_of(&id).await, is(200, "COMPLETED"));
    platform.advance(MINUTE * 2);
    gone(&platform, &id).await;
    assert_eq!(status_of(&id).await, is(404, ""));

    // A job may run for its executionTimeout.
    let id = taken(&platform, json!({"executionTimeout": 50_000})).await;
    platform.advance(Duration::from_secs(40));
    assert_eq!(status_of(&id).await, is(200, "IN_PROGRESS"));
    platform.advance(Duration::from_secs(11));
    assert_eq!(ended(&platform, &id).await.status.as_str(), "TIMED_OUT");

    // The platform requeues the job of a silent worker, until the job has lost its worker three times.
    let id = taken(&platform, json!({})).await;
    for _ in 0..2 {
        platform.advance(MINUTE + Duration::from_secs(1));
        let take = "/v2/local/job-take/w?job_in_progress=0";
        let (_, job) = call(&platform, "GET", take, None, &Value::Null).await;
        assert_eq!(job["id"], id.as_str());
    }
    platform.advance(MINUTE + Duration::from_secs(1));
    let status = ended(&platform, &id).await;
    assert_eq!(status.status.as_str(), "FAILED");
    assert!(
        status
            .error
            .unwrap()
            .as_str()
            .unwrap()
            .contains("lost its worker 3 times")
    );
    let (_, health) = call(&platform, "GET", "/health", None, &Value::Null).await;
    assert_eq!(health["jobs"]["retried"], 2);

    // It also requeues a job that the heartbeats of its worker do not list.
    let id = taken(&platform, json!({})).await;
    let ping = "/v2/local/ping/w?runpod_version=1";
    for _ in 0..4 {
        platform.advance(Duration::from_secs(20));
        call(
            &platform,
            "GET",
            &format!("{ping}&job_id={id}"),
            None,
            &Value::Null,
        )
        .await;
    }
    assert_eq!(status_of(&id).await, is(200, "IN_PROGRESS"));
    for _ in 0..4 {
        platform.advance(Duration::from_secs(20));
        call(&platform, "GET", ping, None, &Value::Null).await;
    }
    assert_eq!(status_of(&id).await, is(200, "IN_QUEUE"));
    call(&platform, "POST", "/purge-queue", None, &Value::Null).await;

    // The platform removes a job at the end of its ttl, whatever its state.
    let body = json!({"input": 1, "policy": {"ttl": 20_000}});
    let (_, body) = call(&platform, "POST", "/run", None, &body).await;
    platform.advance(Duration::from_secs(21));
    gone(&platform, body["id"].as_str().unwrap()).await;
}

/// Waits until the platform no longer knows the job.
async fn gone(platform: &Platform, id: &str) {
    let events = platform.follow(id);
    // The stream ends when the job is removed.
    let all: Vec<JobEvent> = events.collect().await;
    assert!(all.len() < 10, "{all:?}");
    while platform.status(id).is_some() {
        tokio::task::yield_now().await;
    }
}

async fn misbehaving(faults: &str) -> Platform {
    let faults: Faults = faults.parse().unwrap();
    let builder: Builder = Platform::builder()
        .rules("run_rate=0,runsync_rate=0".parse().unwrap())
        .faults(faults);
    builder.start().await.unwrap()
}

#[tokio::test]
async fn injected_faults_are_visible_to_clients() {
    let platform = misbehaving("errors=0.3,throttled=0.2,dropped=0.2,lost=0.1,seed=1").await;
    let http = client();
    let url = format!("{}/run", platform.url());
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..200 {
        let response = http.post(&url).body(r#"{"input": 1}"#).send().await;
        let what = match response {
            Ok(response) if response.status() == 429 => {
                assert_eq!(response.headers()["Retry-After"], "1");
                "throttled"
            }
            Ok(response) if response.status().is_success() => "well",
            Ok(response) => match response.bytes().await {
                Ok(_) => "error",
                Err(_) => "broken",
            },
            Err(_) => "broken",
        };
        *seen.entry(what).or_insert(0) += 1;
    }
    for what in ["well", "throttled", "error", "broken"] {
        let count = seen.get(what).copied().unwrap_or(0);
        assert!((15..110).contains(&count), "{what}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_worker_survives_injected_faults() {
    let platform =
        misbehaving("errors=0.1,throttled=0.02,dropped=0.1,lost=0.05,latency=0ms..5ms,seed=2")
            .await;
    let ids: Vec<String> = (0..100)
        .map(|n| platform.submit(request(json!(n))).unwrap())
        .collect();
    let worker = start(
        Worker::new::<echo>().concurrency(8),
        platform.worker_env("w1"),
    );
    for (n, id) in ids.iter().enumerate() {
        let status = tokio::time::timeout(MINUTE / 6, ended(&platform, id))
            .await
            .unwrap();
        assert_eq!(status.output.unwrap().get(), n.to_string());
    }
    // The worker stops before the platform: it may have to post a result again whose answer was lost.
    worker.stop().await.unwrap();
}
