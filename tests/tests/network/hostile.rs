//! Malformed and hostile requests: the local platform answers with the right status, does not panic, and keeps
//! running.

use std::time::Duration;

use podwork_platform::Platform;
use podwork_tests::{client, within_a_minute};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

struct Target {
    platform: Platform,
    http: Client,
}

impl Target {
    async fn start() -> Self {
        Self {
            platform: Platform::builder().start().await.unwrap(),
            http: client(),
        }
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        let url = format!("{}{path}", self.platform.url());
        let response = self.http.post(url).body(body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Sends raw bytes and returns the start of the answer, which is empty if the platform closes the connection.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.platform.addr()).await.unwrap();
        // The platform may close the connection before it has read the whole request.
        let _ = stream.write_all(request).await;
        let mut answer = vec![0; 4096];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answer));
        let read = read.await.expect("answer or end of stream").unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    /// Sends a body without an end, in chunks, until the platform answers. Returns the start of the answer.
    async fn endless_body(&self) -> String {
        let stream = TcpStream::connect(self.platform.addr()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let sending = async move {
            let head =
                "POST /run HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            let mut sent = writer.write_all(head.as_bytes()).await;
            // It ends when the platform closes the connection.
            while sent.is_ok() {
                sent = writer.write_all(chunk.as_bytes()).await;
            }
        };
        let mut answer = vec![0; 4096];
        let answering = async { tokio::join!(reader.read(&mut answer), sending).0 };
        let read = within_a_minute(answering).await.unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    /// Asserts that the platform still accepts a job.
    async fn assert_well(&self) {
        let (status, body) = self.post("/run", r#"{"input": "well"}"#).await;
        assert_eq!(status, 200, "{body}");
    }
}

#[tokio::test]
async fn an_invalid_request_gets_400() {
    let target = Target::start().await;
    let deep = "[".repeat(200_000);
    let deep_policy = format!(
        r#"{{"input": 1, "policy": {}{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let deep_extra = format!(
        r#"{{"input": 1, "s3Config": {}{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    for body in [
        "",
        "null",
        "[]",
        "{",
        "{}",
        "{\"input\"}",
        "{\u{feff}\"input\": 1}",
        "\u{feff}\u{feff}{\"input\": 1}",
        "{\"input\": 1} {}",
        "{\"input\": NaN}",
        "{\"input\": 1, \"input\": 2}",
        "{\"input\": 1, \"webhook\": 5}",
        "[1]",
        "{\"input\": 1, \"policy\": \"fast\"}",
        "{\"input\": 1, \"policy\": [6000]}",
        "{\"input\": 1, \"s3Config\": [1]}",
        "{\"input\": 1, \"policy\": {\"ttl\": -1}}",
        "{\"input\": 1, \"policy\": {\"ttl\": 1e400}}",
        &deep,
        &deep_policy,
        &deep_extra,
    ] {
        let (status, answer) = target.post("/run", body.to_owned()).await;
        let shown: String = body.chars().take(60).collect();
        assert_eq!(status, 400, "{shown}: {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["error"].is_string(), "{answer}");
    }
    let (status, answer) = target.post("/run", b"{\"input\": \"\xff\"}".to_vec()).await;
    assert_eq!(status, 400, "{answer}");
    target.assert_well().await;
}

#[tokio::test]
async fn accepts_input_of_any_nesting_depth() {
    let target = Target::start().await;
    let depth = 1_000_000;
    let input = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let (status, answer) = target
        .post("/run", format!(r#"{{"input": {input}}}"#))
        .await;
    assert_eq!(status, 200, "{answer}");
    let url = format!(
        "{}/v2/local/job-take/w?job_in_progress=0",
        target.platform.url()
    );
    let job = target
        .http
        .get(url)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(job.contains(&input), "the input is passed on unchanged");
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_with_and_without_a_length() {
    let target = Target::start().await;
    let announced = target
        .raw(b"POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{")
        .await;
    assert!(announced.starts_with("HTTP/1.1 413"), "{announced}");

    let answer = target.endless_body().await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    target.assert_well().await;
}

#[tokio::test]
async fn odd_paths_and_ids_are_not_found() {
    let target = Target::start().await;
    let long = format!("/status/{}", "x".repeat(8000));
    for path in [
        "/status/",
        "/status/..%2f..%2fetc%2fpasswd",
        "/status/%00",
        "/status/%ff",
        "/status/a b",
        "/v2//health",
        "/v2/%2e%2e/health",
        "/v2/no such endpoint/health",
        "/v2/local/status",
        "/nothing",
        "//",
        &long,
    ] {
        let path = path.replace(' ', "%20");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = target.raw(request.as_bytes()).await;
        let status = answer.get(9..12).unwrap_or_default();
        assert!(matches!(status, "404" | "400"), "{path:.60}: {answer}");
    }
    target.assert_well().await;
}

#[tokio::test]
async fn rejects_malformed_http() {
    let target = Target::start().await;
    let flood = "X-More: 1\r\n".repeat(5000);
    let huge = format!("X-Huge: {}\r\n", "x".repeat(2 * 1024 * 1024));
    for (request, expected) in [
        (
            format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{flood}\r\n"),
            "431",
        ),
        (
            format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{huge}\r\n"),
            "431",
        ),
        ("\0\0\0\0\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), "400"),
        (
            "POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "POST /run HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
                .to_owned(),
            "400",
        ),
    ] {
        let answer = target.raw(request.as_bytes()).await;
        let status = answer.get(9..12).unwrap_or_default();
        assert_eq!(status, expected, "{request:.40}: {answer}");
    }
    target.assert_well().await;
}

/// Sends the first bytes, then one more byte each second until the platform answers or closes the connection. Returns
/// the answer and the time until then.
async fn drip(target: &Target, first: &[u8]) -> (String, Duration) {
    let mut stream = TcpStream::connect(target.platform.addr()).await.unwrap();
    let started = tokio::time::Instant::now();
    stream.write_all(first).await.unwrap();
    let mut answer = vec![0; 4096];
    loop {
        tokio::select! {
            read = stream.read(&mut answer) => {
                let read = read.unwrap_or(0);
                let said = String::from_utf8_lossy(&answer[..read]).into_owned();
                return (said, started.elapsed());
            }
            // The test runs with paused time.
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        // The platform may have just closed the connection.
        let _ = stream.write_all(b"x").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_arrives_too_slowly_is_given_up() {
    let target = Target::start().await;
    let body =
        b"POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{\"input\": \"";
    let (said, after) = drip(&target, body).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert_eq!(after.as_secs(), 120);
    let (said, after) = drip(&target, b"GET /health HTTP/1.1\r\nX-Slow: ").await;
    assert!(!said.starts_with("HTTP/1.1 200"), "{said}");
    assert_eq!(after.as_secs(), 120);
    let (said, after) = drip(&target, b"").await;
    assert!(!said.starts_with("HTTP/1.1 200"), "{said}");
    assert_eq!(after.as_secs(), 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_block_others() {
    let target = Target::start().await;
    let mut idle = Vec::new();
    for n in 0..1000 {
        // Stops at the system's limit of open connections for one process.
        let Ok(mut stream) = TcpStream::connect(target.platform.addr()).await else {
            break;
        };
        let begun: &[u8] = match n % 3 {
            0 => b"",
            1 => b"GET /health HT",
            _ => b"POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n{\"in",
        };
        stream.write_all(begun).await.unwrap();
        idle.push(stream);
    }
    assert!(idle.len() > 200, "{}", idle.len());
    for _ in 0..20 {
        target.assert_well().await;
    }
    let (status, _) = target
        .post("/runsync?wait=1000", json!({"input": 1}).to_string())
        .await;
    assert_eq!(status, 200);
    target.platform.shutdown().await;
}
