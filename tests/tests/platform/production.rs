//! Behavior that the local platform shares with Runpod in production: empty inputs, payloads as written, webhook bodies,
//! retries, the limits on calls, and the preset `current`.

use std::time::Duration;

use podwork::{Context, Worker, handler};
use podwork_platform::Platform;
use podwork_tests::{Answer, Recorded, Scripted, client, ended, start};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// An object whose numbers and members change if it is parsed into a [`Value`].
const EXACT: &str =
    r#"{"z": 5400121572116418999000, "a": 1.0, "m": [0.10, 1e400, -0.0], "b": {"é": "\u00e9"}}"#;

const TAKE: &str = "/v2/local/job-take/w?job_in_progress=0";

async fn platform(rules: &str) -> Platform {
    let builder = Platform::builder().rules(rules.parse().unwrap());
    builder.start().await.unwrap()
}

/// Sends a request, and returns the status and the body as text.
async fn text(platform: &Platform, method: &str, path: &str, body: &str) -> (u16, String) {
    let url = format!("{}{path}", platform.url());
    let request = client().request(method.parse().unwrap(), url);
    let response = request.body(body.to_owned()).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.text().await.unwrap())
}

/// Sends a request that is accepted, and returns the body as text.
async fn accepted(platform: &Platform, method: &str, path: &str, body: &str) -> String {
    let (status, said) = text(platform, method, path, body).await;
    assert_eq!(status, 200, "{method} {path}: {said}");
    said
}

/// Submits a job, and returns its id.
async fn run(platform: &Platform, body: &str) -> String {
    let said: Value =
        serde_json::from_str(&accepted(platform, "POST", "/run", body).await).unwrap();
    said["id"].as_str().unwrap().to_owned()
}

async fn status(platform: &Platform, path: &str) -> Value {
    serde_json::from_str(&accepted(platform, "GET", path, "").await).unwrap()
}

#[handler]
async fn same(input: Box<RawValue>, cx: Context) -> Box<RawValue> {
    cx.progress(&input);
    input
}

#[tokio::test]
async fn an_empty_input_is_left_out_and_no_other() {
    let platform = platform("").await;
    for (input, expected) in [
        ("{}", ""),
        ("{ }", ""),
        ("{\n\t}", ""),
        ("[]", ",\"input\":[]"),
        ("null", ",\"input\":null"),
        ("\"\"", ",\"input\":\"\""),
        ("0", ",\"input\":0"),
        ("{\"a\":{}}", ",\"input\":{\"a\":{}}"),
        ("{\"__empty\":true}", ",\"input\":{\"__empty\":true}"),
        ("\"{}\"", ",\"input\":\"{}\""),
    ] {
        let id = run(&platform, &format!("{{\"input\":{input}}}")).await;
        let job = accepted(&platform, "GET", TAKE, "").await;
        assert_eq!(job, format!("{{\"id\":\"{id}\"{expected}}}"), "{input}");
    }
    // Other members stay, also in a batch.
    for _ in 0..2 {
        run(&platform, r#"{"input":{},"s3Config":{"a":1}}"#).await;
    }
    let take = "/v2/local/job-take-batch/w?batch_size=2&job_in_progress=0";
    let jobs: Value = serde_json::from_str(&accepted(&platform, "GET", take, "").await).unwrap();
    for job in jobs.as_array().unwrap() {
        assert_eq!(job["s3Config"], json!({"a": 1}));
        assert!(job.get("input").is_none(), "{job}");
    }
}

#[tokio::test]
async fn an_empty_input_is_handed_out_if_the_rule_is_off() {
    let platform = platform("strip_empty_input=false").await;
    let id = run(&platform, r#"{"input":{ }}"#).await;
    let job = accepted(&platform, "GET", TAKE, "").await;
    assert_eq!(job, format!("{{\"id\":\"{id}\",\"input\":{{ }}}}"));
}

#[tokio::test]
async fn our_worker_runs_a_job_whose_empty_input_was_left_out() {
    let platform = platform("").await;
    let id = run(&platform, r#"{"input":{}}"#).await;
    let worker = start(Worker::new::<same>(), platform.worker_env("w1"));
    assert_eq!(ended(&platform, &id).await.output.unwrap().get(), "{}");
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn payloads_stay_as_they_were_written() {
    let hooks = Scripted::start(|_: &Recorded, _| Answer::Status(200)).await;
    let platform = platform("").await;
    let webhook = hooks.url();
    let body = format!(r#"{{"webhook":"{webhook}","input":{EXACT},"s3Config":{EXACT}}}"#);
    let id = run(&platform, &body).await;
    let job = accepted(&platform, "GET", TAKE, "").await;
    assert_eq!(job.matches(EXACT).count(), 2, "{job}");

    let done = format!("/v2/local/job-done/w/{id}?isStream=false");
    let progress = format!(r#"{{"status":"IN_PROGRESS","output":{EXACT}}}"#);
    accepted(&platform, "POST", &done, &progress).await;
    let said = accepted(&platform, "GET", &format!("/status/{id}"), "").await;
    assert!(said.contains(&format!(r#""output":{EXACT}"#)), "{said}");

    let chunk = format!(r#"{{"output":{EXACT}}}"#);
    let stream = format!("/v2/local/job-stream/w/{id}?isStream=false");
    accepted(&platform, "POST", &stream, &chunk).await;
    let said = accepted(&platform, "GET", &format!("/stream/{id}"), "").await;
    assert!(said.contains(&format!(r#""stream":[{chunk}]"#)), "{said}");

    let failed = format!(r#"{{"output":{EXACT},"error":{EXACT}}}"#);
    accepted(&platform, "POST", &done, &failed).await;
    let end = format!(r#","output":{EXACT},"error":{EXACT}"#);
    for path in ["status", "status-sync"] {
        let said = accepted(&platform, "GET", &format!("/{path}/{id}"), "").await;
        assert!(said.ends_with(&format!("{end}}}")), "{path}: {said}");
    }
    // `1e400` is out of the range of a `Value`, so the library returns the text.
    assert_eq!(platform.status(&id).unwrap().error.unwrap(), EXACT);
    let calls = hooks.until("", |calls| calls.len() == 1).await;
    let said = &calls[0].body;
    let request = format!(r#"{end},"input":{EXACT},"webhook":"{webhook}"}}"#);
    assert!(said.ends_with(&request), "{said}");
}

#[tokio::test]
async fn payloads_stay_as_they_were_written_through_our_worker() {
    let platform = platform("").await;
    let worker = start(Worker::new::<same>(), platform.worker_env("w1"));
    let exact = r#"{"z":5400121572116418999000,"a":1.0,"m":[0.10,-0.0],"b":{"é":"é"}}"#;
    let runsync = format!(r#"{{"input":{exact}}}"#);
    let said = accepted(&platform, "POST", "/runsync", &runsync).await;
    assert!(said.ends_with(&format!(r#","output":{exact}}}"#)), "{said}");
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_webhook_body_has_the_request_and_its_tries_share_a_trace() {
    // The first attempt fails.
    let hooks = Scripted::start(|_: &Recorded, n| Answer::Status(if n == 0 { 503 } else { 200 }));
    let hooks = hooks.await;
    let platform = platform("current").await;
    let url = format!("{}done?a=\"b\"", hooks.url());
    let id = run(&platform, &json!({"input": {}, "webhook": url}).to_string()).await;
    accepted(&platform, "GET", TAKE, "").await;
    let done = format!("/v2/local/job-done/w/{id}?isStream=false");
    accepted(&platform, "POST", &done, r#"{"output":[1]}"#).await;
    hooks.until("", |calls| calls.len() == 1).await;
    let mut status = status(&platform, &format!("/status/{id}")).await;
    status["input"] = json!({});
    status["webhook"] = json!(url);
    platform.advance(Duration::from_secs(5));
    let calls = hooks.until("", |calls| calls.len() == 2).await;
    let traces = calls.iter().map(|call| {
        assert_eq!(call.json(), status);
        assert_eq!(call.headers["content-type"], "application/json");
        let parts: Vec<&str> = call.headers["traceparent"].split('-').collect();
        let [version, trace, span, flags] = parts[..] else {
            panic!("{parts:?}");
        };
        assert_eq!(
            (version, trace.len(), span.len(), flags),
            ("00", 32, 16, "01")
        );
        (trace.to_owned(), span.to_owned())
    });
    let traces: Vec<(String, String)> = traces.collect();
    assert_eq!(traces[0].0, traces[1].0);
    assert_ne!(traces[0].1, traces[1].1);
}

#[tokio::test]
async fn a_lost_job_fails_after_one_retry_with_the_current_rules() {
    let platform = platform("current").await;
    let id = run(&platform, r#"{"input":1}"#).await;
    let path = format!("/status/{id}");
    accepted(&platform, "GET", TAKE, "").await;
    assert!(status(&platform, &path).await.get("retries").is_none());
    platform.advance(Duration::from_secs(41));
    // The poll waits until the job is in the queue again.
    accepted(&platform, "GET", TAKE, "").await;
    let again = status(&platform, &path).await;
    assert_eq!(
        (&again["status"], &again["retries"]),
        (&json!("IN_PROGRESS"), &json!(1))
    );
    assert!(again["delayTime"].as_u64().unwrap() < 30_000, "{again}");
    platform.advance(Duration::from_secs(41));
    let failed = ended(&platform, &id).await;
    assert_eq!(failed.error.unwrap(), "job timed out after 1 retries");
    assert_eq!(failed.retries, Some(1));
}

#[tokio::test]
async fn clients_see_the_running_word_of_the_rules() {
    let platform = platform("running_word=RUNNING,wait_range=0ms..1m,stream_hold=1ms").await;
    let id = run(&platform, r#"{"input":1}"#).await;
    accepted(&platform, "GET", TAKE, "").await;
    let done = format!("/v2/local/job-done/w/{id}?isStream=false");
    accepted(
        &platform,
        "POST",
        &done,
        r#"{"status":"IN_PROGRESS","output":1}"#,
    )
    .await;
    for path in ["status", "status-sync", "stream"] {
        let said = status(&platform, &format!("/{path}/{id}?wait=1")).await;
        assert_eq!(said["status"], "RUNNING", "{path}");
    }
    let (runsync, _) = tokio::join!(
        accepted(&platform, "POST", "/runsync?wait=500", r#"{"input":1}"#),
        accepted(&platform, "GET", TAKE, ""),
    );
    assert!(runsync.ends_with(r#""status":"RUNNING"}"#), "{runsync}");
    accepted(&platform, "POST", &done, r#"{"output":1}"#).await;
    let said = status(&platform, &format!("/status/{id}")).await;
    assert_eq!(said["status"], "COMPLETED");
}

/// Sends `count` calls one after the other, and returns how many of them are accepted. All others get 429.
async fn accepted_of(platform: &Platform, count: usize, method: &str, path: &str) -> usize {
    let http = client();
    let mut accepted = 0;
    for _ in 0..count {
        let url = format!("{}{path}", platform.url());
        let request = http
            .request(method.parse().unwrap(), url)
            .body(r#"{"input":1}"#);
        let response = request.send().await.unwrap();
        match response.status().as_u16() {
            200 => accepted += 1,
            429 => {
                let wait: u64 = response.headers()["Retry-After"]
                    .to_str()
                    .unwrap()
                    .parse()
                    .unwrap();
                assert!(wait >= 1, "{path}: {wait}");
            }
            other => panic!("{path}: {other}"),
        }
    }
    accepted
}

#[tokio::test]
async fn the_current_rates_are_per_10_seconds() {
    let platform = platform("current").await;
    assert_eq!(accepted_of(&platform, 4, "POST", "/purge-queue").await, 2);
    let id = run(&platform, r#"{"input":1}"#).await;
    let cancel = format!("/cancel/{id}");
    assert_eq!(accepted_of(&platform, 120, "POST", &cancel).await, 100);
    // Other operations are not affected.
    assert_eq!(
        accepted_of(&platform, 1, "GET", &format!("/status/{id}")).await,
        1
    );
    platform.advance(Duration::from_secs(10));
    assert_eq!(accepted_of(&platform, 1, "POST", &cancel).await, 1);
    assert_eq!(accepted_of(&platform, 3, "POST", "/purge-queue").await, 2);
}

#[tokio::test]
async fn running_workers_raise_a_rate() {
    let platform = platform("run_rate=3/10m,calls_per_worker=4").await;
    assert_eq!(accepted_of(&platform, 5, "POST", "/run").await, 3);
    let take = |worker: &str| TAKE.replace("/w?", &format!("/{worker}?"));
    accepted(&platform, "GET", &take("one"), "").await;
    assert_eq!(accepted_of(&platform, 5, "POST", "/run").await, 1);
    accepted(&platform, "GET", &take("two"), "").await;
    assert_eq!(accepted_of(&platform, 9, "POST", "/run").await, 4);
}

#[tokio::test]
async fn concurrent_calls_have_limits_of_their_own() {
    let platform = platform("runsync_concurrency=1,runsync_rate=0").await;
    let held = accepted(&platform, "POST", "/runsync", r#"{"input":"held"}"#);
    let other = async {
        let job: Value = serde_json::from_str(&accepted(&platform, "GET", TAKE, "").await).unwrap();
        let id = job["id"].as_str().unwrap().to_owned();
        assert_eq!(accepted_of(&platform, 3, "POST", "/runsync").await, 0);
        assert_eq!(accepted_of(&platform, 1, "POST", "/run").await, 1);
        assert_eq!(
            accepted_of(&platform, 1, "GET", &format!("/status/{id}")).await,
            1
        );
        let done = format!("/v2/local/job-done/w/{id}?isStream=false");
        accepted(&platform, "POST", &done, r#"{"output":1}"#).await;
    };
    tokio::join!(held, other);
    assert_eq!(
        accepted_of(&platform, 1, "POST", "/runsync?wait=1000").await,
        1
    );
}
