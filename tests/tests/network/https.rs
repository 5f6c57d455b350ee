//! Downloads and uploads over TLS. A process reads its trusted certificates from the environment only once, so each
//! case runs this test binary again, as a process of its own.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use podwork::testing::TestJob;
use rcgen::{BasicConstraints, IsCa, date_time_ymd};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::certificate::{certified, certified_with};
use crate::transfers::{fetch, in_a_process, save};

const URL: &str = "PODWORK_TEST_DOWNLOAD";

/// Runs in the other processes: downloads, uploads and prints the results.
#[tokio::test]
#[ignore = "run by the other test"]
async fn download() {
    let job = TestJob::new(json!(std::env::var(URL).unwrap()))
        .env([("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")]);
    println!("{:?}", job.run::<fetch>().await.result);
    let job = TestJob::new(json!("hello")).env([
        ("BUCKET_ENDPOINT_URL", std::env::var(URL).unwrap()),
        ("BUCKET_ACCESS_KEY_ID", "id".to_owned()),
        ("BUCKET_SECRET_ACCESS_KEY", "secret".to_owned()),
    ]);
    println!("{:?}", job.run::<save>().await.result);
}

/// Downloads and uploads in a process that trusts only these certificates, and returns its output.
async fn trusting(url: &str, trusted: &Path) -> String {
    let env = [
        (URL, OsStr::new(url)),
        ("SSL_CERT_FILE", trusted.as_os_str()),
    ];
    in_a_process("https::download", env).await
}

/// A server on a loopback port. It stops when dropped.
struct Server {
    port: u16,
    /// The number of connections so far.
    connections: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Server {
    /// Starts a server with TLS, or without it if there is no acceptor.
    async fn start(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let Some(acceptor) = &acceptor else {
                    answer(stream).await;
                    continue;
                };
                // An error means that the client rejected the certificate.
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream).await;
                }
            }
        });
        Self {
            port,
            connections,
            _task: task,
        }
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut head = [0; 4096];
    if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
        let answer = b"HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 5\r\n\r\nhello";
        // An error means that the client has closed the connection.
        let _ = stream.write_all(answer).await;
        let _ = stream.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_a_trusted_certificate_for_the_host_name() {
    let (acceptor, trusted) = certified("localhost");
    let server = Server::start(Some(acceptor)).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trusted");
    std::fs::write(&file, trusted).unwrap();
    let came = trusting(&format!("https://localhost:{}/x", server.port), &file).await;
    assert!(came.contains(r#"Ok(String("hello"))"#), "{came}");
    assert!(came.contains("Ok(Number(5))"), "{came}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_accepted_is_explained_and_not_retried() {
    let (plain, plain_pem) = certified("localhost");
    let (_, other_pem) = certified("localhost");
    let (ca, ca_pem) = certified_with("localhost", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let (old, old_pem) = certified_with("localhost", |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let (early, early_pem) = certified_with("localhost", |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let cases = [
        (
            Some(plain.clone()),
            "localhost",
            &other_pem,
            "it is not issued by a CA that this machine trusts",
        ),
        (
            Some(plain),
            "127.0.0.1",
            &plain_pem,
            "use a host name that the certificate contains",
        ),
        (
            Some(ca),
            "localhost",
            &ca_pem,
            "it is a CA certificate (CA:TRUE)",
        ),
        (Some(old), "localhost", &old_pem, "it has expired"),
        (Some(early), "localhost", &early_pem, "it is not valid yet"),
        (
            None,
            "localhost",
            &plain_pem,
            "the server does not use TLS on this port",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (acceptor, host, trusted, why) in cases {
        let server = Server::start(acceptor).await;
        let file = folder.path().join("trusted");
        std::fs::write(&file, trusted).unwrap();
        let came = trusting(&format!("https://{host}:{}/x", server.port), &file).await;
        assert_eq!(came.matches("Err(").count(), 2, "{came}");
        assert_eq!(came.matches(why).count(), 2, "{why}: {came}");
        for start in [
            "download_failed: cannot download https://",
            "upload_failed: cannot upload x: ",
        ] {
            assert!(came.contains(start), "{came}");
        }
        assert_eq!(
            server.connections.load(Ordering::SeqCst),
            2,
            "{why}: {came}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_certificates_is_named() {
    let came = trusting("https://localhost:1/x", Path::new("/no/such/file.pem")).await;
    let why =
        "SSL_CERT_FILE is `/no/such/file.pem`, which cannot be read or contains no certificate";
    assert_eq!(came.matches(why).count(), 2, "{came}");
}
