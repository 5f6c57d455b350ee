//! The client and worker APIs of the local platform, over real HTTP.

use podwork_platform::Platform;
use podwork_tests::client;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A local platform, and an HTTP client that acts both as a client and as a worker.
struct Talk {
    platform: Platform,
    http: Client,
}

impl Talk {
    async fn start() -> Self {
        let platform = Platform::builder().rules("stream_hold=50ms,poll_hold=20s".parse().unwrap());
        Self {
            platform: platform.start().await.unwrap(),
            http: client(),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.platform.url());
        let response = self
            .http
            .request(method, url)
            .body(body)
            .send()
            .await
            .unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap()
        };
        (status, body)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send(Method::GET, path, "").await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, body) = self.send(Method::POST, path, body.to_string()).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Submits a job and returns its id.
    async fn run(&self, input: Value) -> String {
        let accepted = self.post("/v2/local/run", json!({ "input": input })).await;
        assert_eq!(accepted["status"], "IN_QUEUE");
        accepted["id"].as_str().unwrap().to_owned()
    }

    async fn take(&self) -> Value {
        self.get("/v2/local/job-take/w?gpu=x&job_in_progress=0")
            .await
    }

    async fn done(&self, id: &str, post: Value) {
        self.post(&format!("/v2/local/job-done/w/{id}?isStream=false"), post)
            .await;
    }

    async fn chunk(&self, id: &str, chunk: Value) {
        self.post(
            &format!("/v2/local/job-stream/w/{id}?isStream=false"),
            json!({ "output": chunk }),
        )
        .await;
    }
}

#[tokio::test]
async fn a_job_from_run_to_result() {
    let talk = Talk::start().await;
    let id = talk.run(json!({"a": 1})).await;
    assert_eq!(
        talk.get(&format!("/status/{id}")).await,
        json!({"id": id, "status": "IN_QUEUE"})
    );
    assert_eq!(talk.take().await, json!({"id": id, "input": {"a": 1}}));
    talk.done(&id, json!({"status": "IN_PROGRESS", "output": 50}))
        .await;
    let running = talk.get(&format!("/status/{id}")).await;
    assert_eq!(
        (&running["status"], &running["output"]),
        (&json!("IN_PROGRESS"), &json!(50))
    );
    talk.done(&id, json!({"output": {"b": 2}})).await;
    let ended = talk
        .post(&format!("/v2/local/status/{id}"), Value::Null)
        .await;
    assert_eq!(
        (&ended["status"], &ended["output"]),
        (&json!("COMPLETED"), &json!({"b": 2}))
    );
    assert!(ended["delayTime"].is_u64() && ended["executionTime"].is_u64());
    assert_eq!(ended["workerId"], "w");
    assert_eq!(talk.get("/health").await["jobs"]["completed"], 1);
}

#[tokio::test]
async fn runsync_answers_with_the_finished_job_or_where_it_stands() {
    let talk = Talk::start().await;
    let (unfinished, finished) = tokio::join!(
        talk.post(
            "/runsync?wait=1000",
            json!({"input": 1, "s3Config": {"b": 1}, "policy": {"ttl": 20000}})
        ),
        async {
            let job = talk.take().await;
            let id = job["id"].as_str().unwrap().to_owned();
            assert!(id.starts_with("sync-"));
            assert_eq!(
                (&job["s3Config"], &job["policy"]),
                (&json!({"b": 1}), &json!({"ttl": 20000}))
            );
            let held = talk.get(&format!("/status-sync/{id}?wait=1000")).await;
            assert_eq!(held["status"], "IN_PROGRESS");
            let (ended, ()) = tokio::join!(
                async { talk.get(&format!("/status-sync/{id}")).await },
                talk.done(&id, json!({"output": null})),
            );
            ended
        }
    );
    assert_eq!(unfinished["status"], "IN_PROGRESS");
    assert!(unfinished.get("output").is_none());
    assert_eq!(
        (&finished["status"], finished.get("output")),
        (&json!("COMPLETED"), Some(&Value::Null))
    );
}

#[tokio::test]
async fn a_stream_hands_out_every_chunk_once() {
    let talk = Talk::start().await;
    let id = talk.run(Value::Null).await;
    let path = format!("/v2/local/stream/{id}");
    let idle = talk.get(&path).await;
    assert_eq!(
        (&idle["status"], &idle["stream"]),
        (&json!("IN_QUEUE"), &json!([]))
    );
    talk.take().await;
    let producer = async {
        for n in 0..200 {
            talk.chunk(&id, json!(n)).await;
        }
        talk.done(&id, json!({"output": []})).await;
    };
    let consumer = async {
        let mut chunks = Vec::new();
        loop {
            let answer = talk.get(&path).await;
            chunks.extend(
                answer["stream"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|chunk| chunk["output"].clone()),
            );
            // Stops at the first final status, as the JavaScript client does.
            if answer["status"] == "COMPLETED" {
                return chunks;
            }
        }
    };
    let ((), chunks) = tokio::join!(producer, consumer);
    assert_eq!(chunks, (0..200).map(Value::from).collect::<Vec<_>>());
    // The Python client polls until a final status comes with an empty list.
    let after = talk.get(&path).await;
    assert_eq!(
        (&after["status"], &after["stream"]),
        (&json!("COMPLETED"), &json!([]))
    );
}

#[tokio::test]
async fn chunks_that_were_not_written_come_again() {
    let talk = Talk::start().await;
    let id = talk.run(Value::Null).await;
    talk.take().await;
    // Together larger than the buffers of a connection.
    let chunk = json!("x".repeat(1_000_000));
    for _ in 0..16 {
        talk.chunk(&id, chunk.clone()).await;
    }
    talk.done(&id, json!({"output": []})).await;
    let mut broken = TcpStream::connect(talk.platform.addr()).await.unwrap();
    let request = format!("GET /v2/local/stream/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    broken.write_all(request.as_bytes()).await.unwrap();
    let mut begun = [0; 1000];
    broken.read_exact(&mut begun).await.unwrap();
    assert!(begun.starts_with(b"HTTP/1.1 200"));
    drop(broken);
    let path = format!("/v2/local/stream/{id}");
    for expected in [16, 0] {
        let answer = talk.get(&path).await;
        assert_eq!(answer["status"], "COMPLETED");
        assert_eq!(answer["stream"].as_array().unwrap().len(), expected);
    }
}

#[tokio::test]
async fn cancelling_a_running_job_signals_its_worker() {
    let talk = Talk::start().await;
    let id = talk.run(Value::Null).await;
    talk.take().await;
    let cancel = format!("/cancel/{id}");
    let (signals, cancelled) = tokio::join!(
        talk.get("/v2/local/job-stop/w?gpu=x"),
        talk.post(&cancel, Value::Null)
    );
    assert_eq!(cancelled, json!({"id": id, "status": "CANCELLED"}));
    assert_eq!(signals, json!({"jobsToStop": [id]}));
}

#[tokio::test]
async fn retry_and_purge() {
    let talk = Talk::start().await;
    let id = talk.run(json!("in")).await;
    talk.take().await;
    talk.done(&id, json!({"error": "no"})).await;
    let failed = talk.get(&format!("/status/{id}")).await;
    assert_eq!(
        (&failed["status"], &failed["error"]),
        (&json!("FAILED"), &json!("no"))
    );
    let retried = talk.post(&format!("/retry/{id}"), Value::Null).await;
    assert_eq!(retried, json!({"id": id, "status": "IN_QUEUE"}));
    let purged = talk.post("/purge-queue", Value::Null).await;
    assert_eq!(purged, json!({"removed": 1, "status": "completed"}));
}

#[tokio::test]
async fn a_batch_takes_as_many_as_there_are() {
    let talk = Talk::start().await;
    for n in 0..3 {
        talk.run(json!(n)).await;
    }
    let batch = talk
        .get("/v2/local/job-take-batch/w?gpu=x&batch_size=2&job_in_progress=0")
        .await;
    let inputs: Vec<&Value> = batch
        .as_array()
        .unwrap()
        .iter()
        .map(|job| &job["input"])
        .collect();
    assert_eq!(inputs, [&json!(0), &json!(1)]);
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
async fn invalid_calls_get_the_right_status_and_the_reason() {
    let talk = Talk::start().await;
    let large = format!(r#"{{"input":"{}"}}"#, "x".repeat(10 * 1024 * 1024));
    let id = talk.run(Value::Null).await;
    let cases = [
        (
            Method::POST,
            "/run".to_owned(),
            "{".to_owned(),
            400,
            "invalid request body",
        ),
        (
            Method::POST,
            "/run".to_owned(),
            "{}".to_owned(),
            400,
            "missing field `input`",
        ),
        (
            Method::POST,
            "/run".to_owned(),
            r#"{"input":1,"policy":7}"#.to_owned(),
            400,
            "expected struct Policy",
        ),
        (
            Method::POST,
            "/run".to_owned(),
            r#"{"input":1,"policy":{"ttl":1}}"#.to_owned(),
            400,
            "between 10000 and",
        ),
        (
            Method::POST,
            "/run".to_owned(),
            large,
            413,
            "exceeds the limit of 10485760 bytes",
        ),
        (
            Method::POST,
            "/runsync?wait=soon".to_owned(),
            r#"{"input":1}"#.to_owned(),
            400,
            "invalid `wait`: `soon`",
        ),
        (
            Method::GET,
            "/run".to_owned(),
            String::new(),
            405,
            "method not allowed: GET",
        ),
        (
            Method::POST,
            "/v2/local/health".to_owned(),
            String::new(),
            405,
            "method not allowed: POST",
        ),
        (
            Method::GET,
            "/status/none".to_owned(),
            String::new(),
            404,
            "job none not found",
        ),
        (
            Method::GET,
            "/stream/none".to_owned(),
            String::new(),
            404,
            "job none not found",
        ),
        (
            Method::POST,
            "/cancel/none".to_owned(),
            String::new(),
            404,
            "job none not found",
        ),
        (
            Method::POST,
            format!("/retry/{id}"),
            String::new(),
            400,
            "is IN_QUEUE",
        ),
        (
            Method::GET,
            "/v2/local/job-take-batch/w?batch_size=some".to_owned(),
            String::new(),
            400,
            "invalid `batch_size`",
        ),
        (
            Method::GET,
            "/nothing".to_owned(),
            String::new(),
            404,
            "no route for path /nothing",
        ),
        (
            Method::GET,
            "/v2/a.b/health".to_owned(),
            String::new(),
            404,
            "invalid endpoint id",
        ),
        (
            Method::POST,
            format!("/v2/local/job-done/w/{id}"),
            "{}".to_owned(),
            409,
            "is not assigned to worker w",
        ),
        (
            Method::POST,
            format!("/v2/local/job-stream/w/{id}"),
            "{}".to_owned(),
            400,
            "missing `output`",
        ),
    ];
    for (method, path, body, status, words) in cases {
        let (got, answer) = talk.send(method, &path, body).await;
        assert_eq!(got, status, "{path}: {answer}");
        assert!(
            answer["error"].as_str().unwrap().contains(words),
            "{path}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_take_that_breaks_while_it_is_held_takes_no_job() {
    let talk = Talk::start().await;
    let mut broken = TcpStream::connect(talk.platform.addr()).await.unwrap();
    broken
        .write_all(b"GET /v2/local/job-take/gone?gpu=x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    // The worker is counted once its poll is open.
    while talk.get("/health").await["workers"]["idle"] != 1 {}
    drop(broken);
    // A job that arrives after the poll broke goes to another worker.
    let id = talk.run(json!("kept")).await;
    assert_eq!(talk.take().await["id"], json!(id));
}

#[tokio::test]
async fn endpoints_are_isolated_and_the_root_path_is_the_default_endpoint() {
    let talk = Talk::start().await;
    talk.post("/v2/other/run", json!({"input": 1})).await;
    talk.post("/run", json!({"input": 1})).await;
    for path in ["/health", "/v2/local/health", "/v2/other/health"] {
        assert_eq!(talk.get(path).await["jobs"]["inQueue"], 1, "{path}");
    }
    assert_eq!(talk.get("/v2/third/health").await["jobs"]["inQueue"], 0);
}

#[tokio::test]
async fn shutting_down_answers_open_polls() {
    let talk = Talk::start().await;
    let mut poll = TcpStream::connect(talk.platform.addr()).await.unwrap();
    poll.write_all(
        b"GET /v2/local/job-take/w HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .await
    .unwrap();
    while talk.get("/health").await["workers"]["idle"] != 1 {}
    talk.platform.shutdown().await;
    let mut answer = String::new();
    poll.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
}

#[tokio::test]
async fn shutting_down_answers_held_calls_with_where_the_job_stands() {
    let talk = Talk::start().await;
    let id = talk.run(Value::Null).await;
    let send = async |method: &str, path: &str, body: &str| {
        let mut held = TcpStream::connect(talk.platform.addr()).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        held.write_all(request.as_bytes()).await.unwrap();
        held
    };
    let runsync = send("POST", "/runsync", r#"{"input": 1}"#).await;
    let status_sync = send("GET", &format!("/status-sync/{id}"), "").await;
    // The same thread serves this call and the two held ones.
    while talk.get("/health").await["jobs"]["inQueue"] != 2 {}
    talk.platform.shutdown().await;
    for (mut held, known) in [(runsync, None), (status_sync, Some(id))] {
        let mut answer = String::new();
        held.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["status"], "IN_QUEUE");
        let id = body["id"].as_str().unwrap();
        match known {
            Some(known) => assert_eq!(id, known),
            None => assert!(id.starts_with("sync-")),
        }
    }
}

#[tokio::test]
async fn start_reports_a_port_in_use_and_an_invalid_endpoint_id() {
    let first = Platform::builder().start().await.unwrap();
    let port = first.addr().port();
    let error = Platform::builder()
        .bind("127.0.0.1", port)
        .start()
        .await
        .unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with(&format!("cannot listen on 127.0.0.1:{port}: ")),
        "{said}"
    );
    assert!(
        said.ends_with("stop the program that uses this port, or choose another port"),
        "{said}"
    );
    let error = Platform::builder()
        .endpoint("a/b")
        .start()
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("invalid endpoint id `a/b`"),
        "{error}"
    );
}
