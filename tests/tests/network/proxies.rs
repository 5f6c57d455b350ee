//! The use of proxies named in the environment. The target of all calls is 0.0.0.0: this machine, but not a loopback
//! address, for which no proxy is used.

use std::time::Duration;

use podwork::testing::TestJob;
use podwork_tests::{Answer, Binary, Scripted, Started};
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::certificate::certified;
use crate::transfers::{fetch, in_a_process, save};

/// An address where nobody listens, so that any answer comes from the proxy.
const NOWHERE: &str = "0.0.0.0:1";

/// A proxy that answers in place of every host, and records the requests. Inside a tunnel it acts as the host 0.0.0.0.
struct Proxy {
    port: u16,
    requests: watch::Receiver<Vec<String>>,
    /// The file with the certificate that clients trust.
    trusted: NamedTempFile,
    serving: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (acceptor, pem) = certified("0.0.0.0");
        let trusted = NamedTempFile::new().unwrap();
        std::fs::write(trusted.path(), pem).unwrap();
        let (seen, requests) = watch::channel(Vec::new());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, acceptor.clone(), seen.clone()));
            }
        });
        Self {
            port,
            requests,
            trusted,
            serving,
        }
    }

    /// Returns the environment variables that name this proxy, one in upper case and one in lower case.
    fn env(&self) -> Vec<(&'static str, String)> {
        let url = format!("http://me:pw@127.0.0.1:{}", self.port);
        let trusted = self.trusted.path().display().to_string();
        vec![
            ("HTTP_PROXY", url.clone()),
            ("https_proxy", url),
            ("SSL_CERT_FILE", trusted),
        ]
    }

    /// Returns the first line of every request so far.
    fn lines(&self) -> Vec<String> {
        let requests = self.requests.borrow();
        let line = |head: &String| head.lines().next().unwrap_or_default().to_owned();
        requests.iter().map(line).collect()
    }

    /// Waits for a request that begins with `start`, and returns its head.
    async fn until(&self, start: &str) -> String {
        let mut requests = self.requests.clone();
        let waiting =
            requests.wait_for(|requests| requests.iter().any(|request| request.starts_with(start)));
        let waited = tokio::time::timeout(Duration::from_mins(1), waiting).await;
        let requests = waited.expect("timed out waiting for a request").unwrap();
        let mut found = requests.iter();
        found
            .find(|request| request.starts_with(start))
            .unwrap()
            .clone()
    }
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Answers one request on a connection, and another one inside a tunnel.
async fn answer(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    acceptor: TlsAcceptor,
    seen: watch::Sender<Vec<String>>,
) -> Option<()> {
    let request = head(&mut stream).await?;
    let is_tunnel = request.starts_with("CONNECT ");
    seen.send_modify(|requests| requests.push(request));
    if !is_tunnel {
        return reply(&mut stream).await;
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    let mut inner = acceptor.accept(stream).await.ok()?;
    let request = head(&mut inner).await?;
    seen.send_modify(|requests| requests.push(request));
    reply(&mut inner).await
}

async fn reply(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Option<()> {
    let answer =
        b"HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    stream.write_all(answer).await.ok()?;
    // A request body may still be arriving, and a reset would make the client lose the answer.
    stream.shutdown().await.ok()?;
    tokio::io::copy(stream, &mut tokio::io::sink()).await.ok()?;
    Some(())
}

/// Starts a platform that hands out one job and holds all further takes open.
async fn platform() -> Scripted {
    Scripted::start(|request, before| match (request.call(), before) {
        ("job-take" | "job-take-batch", 0) => {
            Answer::Json(200, json!({"id": "a", "input": {"do": "echo", "value": 1}}))
        }
        ("job-take" | "job-take-batch" | "job-stop", _) => Answer::Hold,
        _ => Answer::Json(200, json!({})),
    })
    .await
}

/// Starts a worker that reaches the platform at `host`.
fn worker(platform: &Scripted, host: &str, env: Vec<(&'static str, String)>) -> Started {
    let own = platform.env("w").into_iter();
    let own = own.map(|(name, value)| (name, value.replace("127.0.0.1", host)));
    Binary::new(env!("CARGO_BIN_EXE_podwork-test-worker"), &[])
        .env(own)
        .env(env)
        .start()
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_use_the_proxy_but_takes_and_posts_do_not() {
    let (proxy, platform) = (Proxy::start().await, platform().await);
    let _worker = worker(&platform, "0.0.0.0", proxy.env());
    let ping = proxy.until("GET http://0.0.0.0:").await;
    assert!(ping.contains("/v2/golden/ping/w?"), "{ping}");
    assert!(
        ping.contains("proxy-authorization: Basic bWU6cHc="),
        "{ping}"
    );
    platform.until_count("job-done", 1).await;
    assert_eq!(platform.of("job-done")[0].json(), json!({"output": 1}));
    assert!(platform.of("ping").is_empty());
    let lines = proxy.lines();
    assert!(
        lines.iter().all(|line| line.contains("/ping/")),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_over_tls_go_through_a_tunnel() {
    let (proxy, platform) = (Proxy::start().await, platform().await);
    let mut env = proxy.env();
    let ping = format!("https://{NOWHERE}/ping/$RUNPOD_POD_ID");
    env.push(("RUNPOD_WEBHOOK_PING", ping));
    let _worker = worker(&platform, "127.0.0.1", env);
    let connect = proxy.until("CONNECT 0.0.0.0:1 HTTP/1.1").await;
    let authorization = "proxy-authorization: basic bwu6chc=";
    assert!(connect.to_lowercase().contains(authorization), "{connect}");
    assert!(!connect.contains("golden-key"), "{connect}");
    let ping = proxy.until("GET /ping/w?").await;
    assert!(ping.contains("authorization: golden-key"), "{ping}");
    assert!(!ping.contains("proxy-authorization"), "{ping}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bypasses_the_proxy_for_loopback_and_no_proxy_hosts() {
    for (host, no_proxy) in [("127.0.0.1", ""), ("localhost", ""), ("0.0.0.0", "0.0.0.0")] {
        let (proxy, platform) = (Proxy::start().await, platform().await);
        let mut env = proxy.env();
        env.push(("no_proxy", no_proxy.to_owned()));
        let _worker = worker(&platform, host, env);
        platform.until_count("ping", 2).await;
        assert!(proxy.lines().is_empty(), "{host}: {:?}", proxy.lines());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_use_the_proxy() {
    let (proxy, platform) = (Proxy::start().await, platform().await);
    let mut env = proxy.env();
    let collector = format!("http://{NOWHERE}");
    env.push(("OTEL_EXPORTER_OTLP_ENDPOINT", collector));
    env.push(("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned()));
    let _worker = worker(&platform, "127.0.0.1", env);
    proxy.until("POST http://0.0.0.0:1/v1/traces").await;
}

/// Runs in the process with proxies in its environment: downloads, uploads and prints the results.
#[tokio::test]
#[ignore = "run by the other test"]
async fn transfer() {
    let open = [("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")];
    for scheme in ["http", "https"] {
        let url = json!(format!("{scheme}://{NOWHERE}/{scheme}"));
        let job = TestJob::new(url.clone()).env(open);
        println!("open: {:?}", job.run::<fetch>().await.result);
        let job = TestJob::new(url);
        println!("guarded: {:?}", job.run::<fetch>().await.result);
    }
    let endpoint = format!("http://{NOWHERE}");
    let job = TestJob::new(json!("hello")).env([
        ("BUCKET_ENDPOINT_URL", endpoint.as_str()),
        ("BUCKET_NAME", "trusted"),
        ("BUCKET_ACCESS_KEY_ID", "id"),
        ("BUCKET_SECRET_ACCESS_KEY", "secret"),
    ]);
    println!("open: {:?}", job.run::<save>().await.result);
    let bucket = json!({
        "accessId": "id",
        "accessSecret": "secret",
        "bucketName": "jobs",
        "endpointUrl": endpoint,
    });
    let job = TestJob::new(json!("hello")).extra("s3Config", bucket);
    println!("guarded: {:?}", job.run::<save>().await.result);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_use_the_proxy_only_if_all_addresses_are_allowed() {
    let proxy = Proxy::start().await;
    let said = in_a_process("proxies::transfer", proxy.env()).await;
    let said = |start: &str| {
        let lines = said.lines().filter_map(|line| line.strip_prefix(start));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let hello = r#"Ok(String("hello"))"#;
    assert_eq!(said("open: "), [hello, hello, "Ok(Number(5))"]);
    let guarded = said("guarded: ");
    assert_eq!(guarded.len(), 3);
    for refused in guarded {
        assert!(
            refused.contains("the host's address is not public"),
            "{refused}"
        );
    }
    let mut lines = proxy.lines();
    lines[3].truncate(32);
    assert_eq!(
        lines,
        [
            "GET http://0.0.0.0:1/http HTTP/1.1",
            "CONNECT 0.0.0.0:1 HTTP/1.1",
            "GET /https HTTP/1.1",
            "PUT http://0.0.0.0:1/trusted/tes",
        ]
    );
}
