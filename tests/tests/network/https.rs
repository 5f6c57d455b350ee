//! Downloads and uploads over TLS. A process reads its trusted certificates from the environment only once, so each
//! case runs this test binary again, as a process of its own.

use std::ffi::OsStr;
use std::path::Path;

use podwork::testing::TestJob;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::certificate::certified;
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

#[tokio::test(flavor = "multi_thread")]
async fn accepts_only_a_trusted_certificate_for_the_host_name() {
    let (acceptor, trusted) = certified("localhost");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // An error means that the client rejected the certificate.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut head = [0; 4096];
            if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                let answer = b"HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 5\r\n\r\nhello";
                stream.write_all(answer).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        }
    });

    let folder = tempfile::tempdir().unwrap();
    let (good, other) = (folder.path().join("good"), folder.path().join("other"));
    std::fs::write(&good, trusted).unwrap();
    std::fs::write(&other, certified("localhost").1).unwrap();

    let by_name = format!("https://localhost:{port}/x");
    let came = trusting(&by_name, &good).await;
    assert!(came.contains(r#"Ok(String("hello"))"#), "{came}");
    assert!(came.contains("Ok(Number(5))"), "{came}");

    // An untrusted certificate.
    let came = trusting(&by_name, &other).await;
    assert_eq!(came.matches("Err(").count(), 2, "{came}");
    assert!(
        came.matches("invalid peer certificate").count() >= 2,
        "{came}"
    );

    // A certificate for another host name.
    let by_address = format!("https://127.0.0.1:{port}/x");
    let came = trusting(&by_address, &good).await;
    assert!(
        came.contains("NotValidForName") || came.contains("not valid for name"),
        "{came}"
    );
}
