//! Downloads from a malicious server on loopback: their results, and the files that they leave.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use podwork::files::{Downloads, RemoteFile};
use podwork::testing::{TestJob, TestWorker, Tested};
use podwork::{Context, Result, Worker, handler};
use podwork_tests::{Conn, Hostile};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Barrier, Notify};

/// The files that a job downloads, and its limits.
#[derive(Deserialize)]
struct Request {
    files: Vec<RemoteFile>,
    max_bytes: Option<u64>,
    patience_ms: Option<u64>,
    at_once: Option<usize>,
}

/// Downloads files, and returns their names and checksums or the error, and the contents of the job's folder.
#[handler]
async fn fetch(request: Request, cx: Context) -> Result<Value> {
    let mut downloads = Downloads::new(&cx).progress(|so_far| cx.progress(so_far));
    if let Some(bytes) = request.max_bytes {
        downloads = downloads.max_bytes(bytes);
    }
    if let Some(millis) = request.patience_ms {
        downloads = downloads.idle_timeout(Duration::from_millis(millis));
    }
    if let Some(files) = request.at_once {
        downloads = downloads.concurrency(files);
    }
    let fetched = downloads.fetch_all(&request.files).await;
    let folder = cx.folder()?;
    let mut left = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        left.push(entry?.file_name().to_string_lossy().into_owned());
    }
    left.sort();
    match fetched {
        Ok(paths) => {
            let mut files = Vec::new();
            for path in paths {
                assert_eq!(path.parent(), Some(folder.as_path()));
                let bytes = std::fs::read(&path)?;
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                files.push(json!({ "name": name, "len": bytes.len(), "sum": sum(&bytes) }));
            }
            Ok(json!({ "files": files, "left": left }))
        }
        Err(error) => Ok(json!({ "error": error.to_string(), "left": left })),
    }
}

fn sum(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in digest(&SHA256, bytes).as_ref() {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// Returns random bytes, so that misplaced parts are detected.
fn noise(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..len).map(|_| random.u8(..)).collect()
}

const OPEN: [(&str, &str); 1] = [("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")];

/// Runs a job that may download from loopback.
async fn open(input: Value) -> Tested {
    TestJob::new(input).env(OPEN).run::<fetch>().await
}

/// Returns the error of a job, after checking that it left no files.
fn error(job: Tested) -> String {
    let output = job.result.unwrap();
    assert_eq!(output["left"], json!([]), "{output}");
    output["error"].as_str().unwrap().to_owned()
}

/// Returns the name and checksum of the only file of a job.
fn file(job: Tested) -> (String, String) {
    let output = job.result.unwrap();
    let file = &output["files"][0];
    assert_eq!(output["left"], json!([file["name"]]), "{output}");
    let text = |key: &str| file[key].as_str().unwrap().to_owned();
    (text("name"), text("sum"))
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_refused_in_every_spelling() {
    let server =
        Hostile::start(|mut conn| async move { conn.answer("200 OK", &[], "x").await }).await;
    let port = server.port();
    let hosts = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "%31%32%37.0.0.1",
        "１２７。０。０。１",
        "127.0.0.1.",
        "127.8.8.8",
        "localhost",
        "LocalHost",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::1]",
        "[2002:7f00:1::1]",
        "[2001:0:7f00:1::1]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "198.18.0.1",
        "192.0.2.1",
        "224.0.0.1",
        "255.255.255.255",
    ];
    let started = Instant::now();
    for host in hosts {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:{port}/x");
            let job = TestJob::new(json!({ "files": [url] })).run::<fetch>().await;
            let error = error(job);
            assert!(
                error.contains("the host's address is not public"),
                "{host}: {error}"
            );
        }
    }
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "nothing is retried"
    );
    assert_eq!(server.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_does_not_reveal_the_address() {
    #[handler]
    async fn plain(file: RemoteFile, cx: Context) -> Result<()> {
        file.download(&cx).await?;
        Ok(())
    }

    let job = TestJob::new(json!("http://localhost:1/x?token=secret"));
    let error = job.run::<plain>().await.result.unwrap_err();
    let message = error.message();
    assert!(
        message.starts_with("cannot download http://localhost:1/x: the host's address"),
        "{message}"
    );
    assert!(
        !message.contains("127.0.0.1") && !message.contains("secret"),
        "{message}"
    );
    // The log shows the cause.
    assert!(format!("{error:?}").contains("caused by: "), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_downloaded_unchanged_and_named_safely() {
    let body = noise(3_000_000);
    let sent = body.clone();
    let server = Hostile::start(move |mut conn: Conn| {
        let body = sent.clone();
        async move {
            let disposition = match conn.path() {
                "up" => "content-disposition: attachment; filename=\"../../../up.sh\"",
                "star" => {
                    "content-disposition: attachment; filename*=UTF-8''..%2F..%2F%C3%BCber.png"
                }
                "dots" => "content-disposition: attachment; filename=\"..\"",
                "windows" => "content-disposition: attachment; filename=\"C:\\\\a\\\\b.txt\"",
                _ => "x-none: 1",
            };
            conn.answer("200 OK", &[disposition], &body).await;
        }
    })
    .await;
    for (input, name) in [
        (json!(server.url("a/cat.png?x=/etc/passwd")), "cat.png"),
        (json!(server.url("a/..%2F..%2Fcat.png")), "cat.png"),
        (json!(server.url("")), "file"),
        (json!(server.url("up")), "up.sh"),
        (json!(server.url("star")), "über.png"),
        (json!(server.url("dots")), "dots"),
        (json!(server.url("windows")), "b.txt"),
        (
            json!({ "url": server.url("up"), "name": "mine.png" }),
            "mine.png",
        ),
        (
            json!({ "url": server.url("x"), "name": "../../etc/cron.d/x" }),
            "x",
        ),
        (
            json!({ "url": server.url("x"), "name": "/abs/olute" }),
            "olute",
        ),
        (json!({ "url": server.url("x"), "sha256": sum(&body) }), "x"),
    ] {
        let job = open(json!({ "files": [input] })).await;
        let last = job.progress.last().unwrap();
        assert_eq!(*last, json!({ "bytes": 3_000_000, "of": 3_000_000 }));
        assert_eq!(file(job), (name.to_owned(), sum(&body)));
    }
    let request = &server.requests()[0];
    assert!(
        request.starts_with("GET /a/cat.png?x=/etc/passwd HTTP/1.1\n"),
        "{request}"
    );
    assert!(
        request.contains("accept-encoding: identity\r\n"),
        "{request}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_url_is_a_file_too() {
    let data = "data:application/octet-stream;base64,AAECAw==";
    let job = TestJob::new(json!({ "files": [data] }))
        .run::<fetch>()
        .await;
    assert_eq!(file(job), ("file".to_owned(), sum(&[0, 1, 2, 3])));

    let named = json!({ "url": "data:,hello", "name": "greeting.txt" });
    let job = TestJob::new(json!({ "files": [named] }))
        .run::<fetch>()
        .await;
    assert_eq!(file(job), ("greeting.txt".to_owned(), sum(b"hello")));

    let broken = json!({ "files": ["data:;base64,%%%"] });
    let broken = TestJob::new(broken).run::<fetch>().await.result;
    let broken = broken.unwrap_err().message().to_owned();
    assert!(
        broken.starts_with("invalid input at `files[0]`: cannot download data:"),
        "{broken}"
    );

    let large = json!({ "files": ["data:,hello"], "max_bytes": 4 });
    assert!(error(TestJob::new(large).run::<fetch>().await).contains("the limit of 4 bytes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_stored_as_received() {
    // The checksum is that of the received bytes, and a resumed download continues in them.
    let body = noise(1000);
    let sent = body.clone();
    let server = Hostile::start(move |mut conn: Conn| {
        let body = sent.clone();
        async move {
            let gzip = "content-encoding: gzip";
            match conn.range() {
                None => {
                    conn.send(format!(
                        "HTTP/1.1 200 OK\r\netag: \"1\"\r\n{gzip}\r\ncontent-length: 1000\r\n\r\n"
                    ))
                    .await;
                    conn.send(&body[..400]).await;
                }
                Some(start) => {
                    let range = format!("content-range: bytes {start}-999/1000");
                    conn.answer("206 Partial Content", &[gzip, &range], &body[start..])
                        .await;
                }
            }
        }
    })
    .await;
    let input = json!({ "url": server.url("a.json"), "sha256": sum(&body) });
    let job = open(json!({ "files": [input] })).await;
    assert_eq!(file(job), ("a.json".to_owned(), sum(&body)));
    for request in server.requests() {
        assert!(
            request.contains("accept-encoding: identity\r\n"),
            "{request}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_written_is_an_error_of_its_own() {
    #[handler]
    async fn without_folder(file: RemoteFile, cx: Context) -> Result<()> {
        let folder = cx.folder()?;
        std::fs::remove_dir(&folder)?;
        std::fs::write(&folder, "not a folder")?;
        let fetched = file.download(&cx).await;
        std::fs::remove_file(&folder)?;
        fetched?;
        Ok(())
    }

    let server = Hostile::start(|mut conn: Conn| async move {
        conn.answer("200 OK", &[], "x").await;
    })
    .await;
    let job = TestJob::new(json!(server.url("x"))).env(OPEN);
    let error = job.run::<without_folder>().await.result.unwrap_err();
    assert_eq!(error.kind(), "download_failed");
    assert_eq!(
        error.message(),
        "cannot write the file into the job's folder"
    );
    assert!(
        format!("{error:?}").contains("caused by: Not a directory"),
        "{error:?}"
    );
    assert_eq!(server.requests().len(), 1, "nothing is retried");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_over_the_limit_are_refused() {
    let server = Hostile::start(|mut conn: Conn| async move {
        match conn.path() {
            // `Content-Length` exceeds the limit.
            "announced" => {
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000001\r\n\r\n";
                conn.send(head).await;
                conn.gone().await;
            }
            // The body never ends.
            "endless" => {
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                conn.send(head).await;
                let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
                while conn.send(&chunk).await {}
            }
            "until_it_closes" => {
                conn.send("HTTP/1.1 200 OK\r\n\r\n").await;
                while conn.send([0; 1000]).await {}
            }
            _ => conn.answer("200 OK", &[], vec![0; 1_000_000]).await,
        }
    })
    .await;
    for path in ["announced", "endless", "until_it_closes"] {
        let url = server.url(path);
        let job = open(json!({ "files": [url], "max_bytes": 1_000_000 })).await;
        assert_eq!(
            error(job),
            format!("cannot download {url}: larger than the limit of 1000000 bytes")
        );
    }
    let job = open(json!({ "files": [server.url("fits")], "max_bytes": 1_000_000 })).await;
    assert_eq!(file(job).1, sum(&vec![0; 1_000_000]));
    assert_eq!(server.requests().len(), 4, "nothing is retried");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_is_resumed() {
    let body = noise(5_000_000);
    let sent = body.clone();
    let server = Hostile::start(move |mut conn: Conn| {
        let body = sent.clone();
        async move {
            // Each attempt transfers 2 MB, then the connection breaks.
            let start = conn.range().unwrap_or(0);
            let end = body.len().min(start + 2_000_000);
            let status = if start == 0 {
                "200 OK"
            } else {
                "206 Partial Content"
            };
            let head = format!(
                "HTTP/1.1 {status}\r\netag: \"v1\"\r\ncontent-length: {}\r\n\
                 content-range: bytes {start}-{}/{}\r\n\r\n",
                body.len() - start,
                body.len() - 1,
                body.len()
            );
            conn.send(head).await;
            conn.send(&body[start..end]).await;
        }
    })
    .await;
    let input = json!({ "url": server.url("weights.bin"), "sha256": sum(&body) });
    let job = open(json!({ "files": [input] })).await;
    assert_eq!(file(job), ("weights.bin".to_owned(), sum(&body)));
    let requests = server.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(!requests[0].contains("range:"));
    for (request, start) in [(&requests[1], 2_000_000), (&requests[2], 4_000_000)] {
        assert!(
            request.contains(&format!("\nrange: bytes={start}-\r\n")),
            "{request}"
        );
        assert!(request.contains("\nif-range: \"v1\"\r\n"), "{request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_cannot_be_resumed_restarts() {
    let (old, new) = (noise(300_000), vec![1; 200_000]);
    for (path, expected) in [
        ("changed", &new),
        ("unversioned", &old),
        ("another-part", &new),
        ("another-version", &new),
        ("shrunk", &new),
    ] {
        let (first, second) = (old.clone(), new.clone());
        let server = Hostile::start(move |mut conn: Conn| {
            let (old, new) = (first.clone(), second.clone());
            async move {
                let path = conn.path().to_owned();
                match (path.as_str(), conn.range()) {
                    _ if conn.before == 0 => {
                        let tag = if path == "unversioned" {
                            "W/\"v1\""
                        } else {
                            "\"v1\""
                        };
                        let head = format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: 300000\r\netag: {tag}\r\n\r\n"
                        );
                        conn.send(head).await;
                        conn.send(&old[..100_000]).await;
                    }
                    ("unversioned", None) => conn.answer("200 OK", &[], &old).await,
                    ("unversioned", Some(_)) => conn.answer("400 Bad Request", &[], "").await,
                    ("another-part", Some(_)) => {
                        let range = "content-range: bytes 0-199999/300000";
                        conn.answer("206 Partial Content", &[range], &new).await;
                    }
                    ("another-version", Some(_)) => {
                        let range = "content-range: bytes 100000-299999/300000";
                        let headers = [range, "etag: \"v2\""];
                        conn.answer("206 Partial Content", &headers, &new).await;
                    }
                    ("shrunk", Some(_)) => {
                        conn.answer("416 Range Not Satisfiable", &[], "").await;
                    }
                    _ => conn.answer("200 OK", &[], &new).await,
                }
            }
        })
        .await;
        let job = open(json!({ "files": [server.url(path)] })).await;
        assert_eq!(file(job), (path.to_owned(), sum(expected)), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_joined_only_if_they_belong_to_one_version() {
    let (old, new) = (noise(1000), vec![1; 1000]);
    for path in ["in-parts", "another-date", "of-any-length"] {
        let (first, second) = (old.clone(), new.clone());
        let server = Hostile::start(move |mut conn: Conn| {
            let (old, new) = (first.clone(), second.clone());
            async move {
                let path = conn.path().to_owned();
                let Some(start) = conn.range() else {
                    if conn.before > 0 {
                        return conn.answer("200 OK", &[], &new).await;
                    }
                    let version = match path.as_str() {
                        "another-date" => "last-modified: Mon, 01 Jan 2024 00:00:00 GMT",
                        _ => "etag: \"1\"",
                    };
                    let coding = "transfer-encoding: chunked";
                    conn.send(format!(
                        "HTTP/1.1 200 OK\r\n{coding}\r\n{version}\r\n\r\n64\r\n"
                    ))
                    .await;
                    conn.send(&old[..100]).await;
                    conn.send("\r\n").await;
                    return;
                };
                // This server limits the length of a part.
                let end = 1000.min(start + 400);
                let total = match path.as_str() {
                    "of-any-length" => "*",
                    _ => "1000",
                };
                let range = format!("content-range: bytes {start}-{}/{total}", end - 1);
                let date = "last-modified: Tue, 02 Jan 2024 00:00:00 GMT";
                conn.answer("206 Partial Content", &[&range, date], &old[start..end])
                    .await;
            }
        })
        .await;
        let expected = if path == "in-parts" { &old } else { &new };
        let job = open(json!({ "files": [server.url(path)] })).await;
        assert_eq!(file(job), (path.to_owned(), sum(expected)), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_file_is_an_error() {
    let server = Hostile::start(|mut conn: Conn| async move {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n";
        match conn.path() {
            // The body is always shorter than its `Content-Length`.
            "short" => {
                conn.send(format!("{head}\r\n0123456789")).await;
            }
            // The last chunk never arrives.
            "torn" => {
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                conn.send(format!("{head}a\r\n0123456789\r\n")).await;
            }
            // The part claims to belong to this file, but is too long.
            "long" if conn.range().is_some() => {
                let range = "content-range: bytes 10-99/100";
                conn.answer("206 Partial Content", &[range], vec![0; 500])
                    .await;
            }
            "long" => {
                conn.send(format!("{head}etag: \"1\"\r\n\r\n0123456789"))
                    .await;
            }
            "two-lengths" => {
                conn.send(format!("{head}content-length: 10\r\n\r\n0123456789"))
                    .await;
            }
            "garbage" => {
                conn.send("\0\x01\x02\r\n\r\n").await;
            }
            // "refused": close the connection.
            _ => {}
        }
    })
    .await;
    let paths = ["short", "torn", "long", "two-lengths", "garbage", "refused"];
    let urls = paths.map(|path| server.url(path));
    let jobs = join_all(urls.iter().map(|url| open(json!({ "files": [url] })))).await;
    for (url, job) in urls.iter().zip(jobs) {
        let error = error(job);
        let start = format!("failed to download {url} in 5 attempts: ");
        assert!(error.starts_with(&start), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_servers_are_given_up() {
    let server = Hostile::start(|mut conn: Conn| async move {
        match conn.path() {
            "drip" => {
                conn.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                    .await;
                while conn.send("x").await {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            "drip-of-headers" => {
                conn.send("HTTP/1.1 200 OK\r\n").await;
                while conn.send("x: y\r\n").await {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            "stall" => {
                conn.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx")
                    .await;
                conn.gone().await;
            }
            _ => conn.gone().await,
        }
    })
    .await;
    let paths = [
        ("drip", " bytes received in 300ms"),
        ("drip-of-headers", "the server did not respond within 300ms"),
        ("stall", "only 1 bytes received in 300ms"),
        ("silence", "the server did not respond within 300ms"),
    ];
    let request = |path| json!({ "files": [server.url(path)], "patience_ms": 300 });
    let jobs = join_all(paths.map(|(path, _)| open(request(path)))).await;
    for ((_, why), job) in paths.iter().zip(jobs) {
        let error = error(job);
        assert!(
            error.contains("in 5 attempts") && error.ends_with(why),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_another_checksum_is_refused() {
    let server = Hostile::start(|mut conn: Conn| async move {
        conn.answer("200 OK", &[], "not the weights").await;
    })
    .await;
    let (expected, got) = (sum(b"the weights"), sum(b"not the weights"));
    let input = json!({ "url": server.url("w"), "sha256": expected });
    let error = error(open(json!({ "files": [input] })).await);
    let url = server.url("w");
    assert_eq!(
        error,
        format!("checksum mismatch for {url}: expected SHA-256 {expected}, got {got}")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unexpected_statuses_are_reported() {
    let server = Hostile::start(|mut conn: Conn| async move {
        match conn.path() {
            "busy" if conn.before < 2 => {
                conn.answer("503 Service Unavailable", &["retry-after: 0"], "later")
                    .await;
            }
            "busy" => conn.answer("200 OK", &[], "here").await,
            "broken" => conn.answer("500 Internal Server Error", &[], "no").await,
            "empty" => conn.answer("204 No Content", &[], "").await,
            // A part that was not requested.
            "part" => {
                let range = "content-range: bytes 5-9/10";
                conn.answer("206 Partial Content", &[range], "01234").await;
            }
            _ => conn.answer("404 Not Found", &[], "<html>").await,
        }
    })
    .await;
    let job = open(json!({ "files": [server.url("busy")] })).await;
    assert_eq!(file(job).1, sum(b"here"));
    for (path, why) in [
        ("missing", "/missing: the server responded with status 404"),
        ("empty", "/empty: the server responded with status 204"),
        ("part", "/part: the server responded with status 206"),
        (
            "broken",
            "in 5 attempts: the server responded with status 500 Internal Server Error",
        ),
    ] {
        let error = error(open(json!({ "files": [server.url(path)] })).await);
        assert!(error.ends_with(why), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_limited_and_validated() {
    let server = Hostile::start(|mut conn: Conn| async move {
        let to = match conn.path() {
            "5" => "location: 4",
            "4" => "location: /3",
            "3" => "location: 2?x#y",
            "2?x" => "location: //TO/1",
            "1" => "location: http://TO/0/cat.png",
            "0/cat.png" => return conn.answer("200 OK", &[], "a cat").await,
            "loop" => "location: loop",
            "file" => "location: file:///etc/passwd",
            "ftp" => "location: ftp://127.0.0.1/",
            "password" => "location: http://me:pw@TO/0",
            "garbage" => "location: http://[",
            _ => "x-none: 1",
        };
        let host = conn.header("host").unwrap().to_owned();
        conn.answer("302 Found", &[&to.replace("TO", &host)], "")
            .await;
    })
    .await;
    let job = open(json!({ "files": [server.url("5")] })).await;
    // The file is named after the original URL, before any redirect.
    assert_eq!(file(job), ("5".to_owned(), sum(b"a cat")));
    for (path, why) in [
        ("loop", "redirected more than 5 times"),
        ("file", "the scheme `file` is not http, https or data"),
        ("ftp", "the scheme `ftp` is not http, https or data"),
        ("password", "the URL contains a user name or a password"),
        ("garbage", "a redirect has an invalid URL"),
        ("nowhere", "a redirect has no `Location` header"),
    ] {
        let error = error(open(json!({ "files": [server.url(path)] })).await);
        assert!(error.ends_with(why), "{error}");
        assert!(!error.contains("pw"), "{error}");
    }
    let loops = server.requests();
    let loops = loops.iter().filter(|head| head.starts_with("GET /loop "));
    assert_eq!(loops.count(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_run_concurrently_and_keep_their_order() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // No request is answered until three have arrived.
    let three = Arc::new(Barrier::new(3));
    let counts = (Arc::clone(&now), Arc::clone(&most), three);
    let server = Hostile::start(move |mut conn: Conn| {
        let (now, most, three) = counts.clone();
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            three.wait().await;
            let body = conn.path().repeat(10);
            now.fetch_sub(1, Ordering::SeqCst);
            conn.answer(
                "200 OK",
                &["content-disposition: inline; filename=a.txt"],
                body,
            )
            .await;
        }
    })
    .await;
    let urls: Vec<_> = (0..9).map(|n| server.url(&n.to_string())).collect();
    let job = open(json!({ "files": urls, "at_once": 3 })).await;
    assert_eq!(
        *job.progress.last().unwrap(),
        json!({ "bytes": 90, "of": 90 })
    );
    let output = job.result.unwrap();
    let mut names = Vec::new();
    for (n, file) in output["files"].as_array().unwrap().iter().enumerate() {
        assert_eq!(file["sum"], sum(n.to_string().repeat(10).as_bytes()));
        names.push(file["name"].as_str().unwrap().to_owned());
    }
    names.sort();
    let expected: Vec<_> = (2..=9).map(|n| format!("a-{n}.txt")).collect();
    assert_eq!(names, [expected, vec!["a.txt".to_owned()]].concat());
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_download_cancels_the_others() {
    let server = Hostile::start(|mut conn: Conn| async move {
        match conn.path() {
            "bad" => conn.answer("404 Not Found", &[], "").await,
            "good" => conn.answer("200 OK", &[], "good").await,
            _ => {
                conn.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx")
                    .await;
                conn.gone().await;
            }
        }
    })
    .await;
    for files in [["good", "bad", "slow"], ["slow", "good", "bad"]] {
        let files = files.map(|path| server.url(path));
        let error = error(open(json!({ "files": files, "at_once": 2 })).await);
        assert!(error.ends_with("404"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_download_does_not_delay_the_others() {
    let last = Arc::new(Notify::new());
    let server = Hostile::start(move |mut conn: Conn| {
        let last = Arc::clone(&last);
        async move {
            match conn.path() {
                "first" => last.notified().await,
                "last" => last.notify_one(),
                _ => {}
            }
            conn.answer("200 OK", &[], "x").await;
        }
    })
    .await;
    let files = ["first", "second", "third", "last"].map(|path| server.url(path));
    let job = open(json!({ "files": files, "at_once": 2, "patience_ms": 5000 })).await;
    let output = job.result.unwrap();
    let names = output["files"].as_array().unwrap();
    let names: Vec<_> = names.iter().map(|file| file["name"].clone()).collect();
    assert_eq!(names, ["first", "second", "third", "last"]);
    assert_eq!(server.requests().len(), 4, "nothing was retried");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workers_environment_sets_the_limits() {
    let server = Hostile::start(|mut conn: Conn| async move {
        conn.answer("200 OK", &[], "0123456789").await;
    })
    .await;
    let input = json!({ "files": [server.url("x")] });
    for (variables, expected) in [
        (&[][..], "the host's address is not public"),
        (
            &[("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "no")],
            "the host's address is not public",
        ),
        (
            &[
                ("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "YES"),
                ("RUNPOD_MAX_DOWNLOAD_BYTES", "9"),
            ],
            "larger than the limit of 9 bytes",
        ),
        (
            &[
                ("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "1"),
                ("RUNPOD_MAX_DOWNLOAD_BYTES", "10"),
            ],
            "\"len\":10",
        ),
    ] {
        let worker = Worker::new::<fetch>().env(variables.iter().copied());
        let worker = TestWorker::start(worker).await.unwrap();
        let output = worker.run(input.clone()).await.unwrap().result.unwrap();
        assert!(output.to_string().contains(expected), "{output}");
        worker.stop().await.unwrap();
    }
    let worker = Worker::new::<fetch>().env([("RUNPOD_MAX_DOWNLOAD_BYTES", "5 GB")]);
    let worker = TestWorker::start(worker).await.unwrap();
    let error = worker.stop().await.unwrap_err().to_string();
    assert!(
        error.starts_with("RUNPOD_MAX_DOWNLOAD_BYTES is `5 GB`"),
        "{error}"
    );
}

#[handler]
fn blocking(file: RemoteFile, cx: Context) -> Result<String> {
    let path = file.download_blocking(&cx)?;
    Ok(std::fs::read_to_string(path)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_handler_waits_for_its_file_or_its_timeout() {
    let server = Hostile::start(|mut conn: Conn| async move {
        match conn.path() {
            "hello" => conn.answer("200 OK", &[], "hello").await,
            _ => conn.gone().await,
        }
    })
    .await;
    let job = TestJob::new(json!(server.url("hello"))).env(OPEN);
    assert_eq!(job.run::<blocking>().await.result.unwrap(), json!("hello"));

    let started = Instant::now();
    let job = TestJob::new(json!(server.url("silence"))).env(OPEN);
    let job = job
        .job_timeout(Duration::from_millis(200))
        .run::<blocking>()
        .await;
    // Both the job and its thread have ended, because the run waits for the thread.
    assert_eq!(job.result.unwrap_err().kind(), "timeout");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_url_in_the_input_fails_before_the_handler() {
    let job = TestJob::new(json!({ "files": ["data:,x", "file:///etc/passwd"] }));
    let error = job.run::<fetch>().await.result.unwrap_err();
    assert_eq!(error.kind(), "invalid_input");
    let start = "invalid input at `files[1]`: cannot download file:/etc/passwd: the scheme `file`";
    assert!(error.message().starts_with(start), "{error}");

    let job = TestJob::new(json!({ "files": ["bucket.example.com/a?X-Amz-Signature=secret"] }));
    let error = job.run::<fetch>().await.result.unwrap_err();
    let start = "invalid input at `files[0]`: cannot download `bucket.example.com/a`: ";
    assert!(error.message().starts_with(start), "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}
