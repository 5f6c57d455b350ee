//! Ids, headers and bodies that a platform must refuse, or accept, with care; and the addresses that it listens on.

use std::net::SocketAddr;

use podwork_platform::Platform;
use podwork_tests::within_a_minute;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::raw::{JOB, TAKE, prompt, read, send};

#[tokio::test]
async fn an_empty_key_is_refused() {
    for key in ["", " ", "\t\n"] {
        let error = prompt().api_key(key).start().await.unwrap_err().to_string();
        assert!(error.starts_with("invalid API key: it is empty"), "{error}");
        let error = prompt().api_key("key").worker_key(key).start().await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("invalid worker key: it is empty"),
            "{error}"
        );
    }
    for key in ["k\r\nx: y", " key", "key\n"] {
        let error = prompt().api_key(key).start().await.unwrap_err().to_string();
        assert!(error.starts_with("invalid API key: it "), "{error}");
    }
    let error = prompt()
        .webhook_secret("")
        .start()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("webhook secret: it is empty"), "{error}");
}

#[tokio::test]
async fn ids_and_paths_inject_nothing() {
    let platform = prompt().start().await.unwrap();
    let addr = platform.addr();
    let injection = "x%0d%0aSet-Cookie:%20a=b%0d%0a%1b[2J";
    for (line, status) in [
        (format!("GET /v2/local/job-take/{injection}"), 400),
        (format!("GET /v2/local/ping/{injection}"), 400),
        (format!("GET /v2/local/job-stop/{injection}"), 400),
        (format!("POST /v2/local/job-done/{injection}/j"), 400),
        (format!("GET /v2/local/job-take/{}", "w".repeat(257)), 400),
        (format!("GET /status/{injection}"), 404),
        (format!("POST /cancel/{injection}"), 404),
        (format!("POST /v2/{injection}/run"), 404),
        (format!("GET /{injection}"), 404),
        (format!("POST /runsync?wait={injection}"), 400),
        (format!("GET /v2/local/job-take/w?{injection}"), 204),
    ] {
        let answer = send(addr, &line, &["Host: localhost"], JOB).await;
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert_eq!(answer.header("set-cookie"), None, "{line}: {answer:?}");
        let control = |c: char| c.is_control() && !"\r\n".contains(c);
        assert!(
            !answer.head.contains(control) && !answer.body.contains(char::is_control),
            "{answer:?}"
        );
    }
    // No route reads files.
    for path in [
        "/../../../../etc/passwd",
        "/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/page.css/../../../../etc/passwd",
        "/page.css%2f..%2f..%2fetc%2fpasswd",
        "/status/..%2f..%2f..%2fetc%2fpasswd",
        "/v2/..%2f..%2fetc/health",
        "/v2/local/../../health",
        "/console/start/..%5c..%5cetc",
        "/status/%00",
        "/docs/",
    ] {
        let answer = send(addr, &format!("GET {path}"), &["Host: localhost"], b"").await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(!answer.body.contains("root:"), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn an_id_that_workers_ignore_is_refused() {
    let platform = prompt().start().await.unwrap();
    let submit = |id: &str| {
        let request = serde_json::from_slice(JOB).unwrap();
        platform.submit_with_id(id, request)
    };
    for id in ["x".repeat(1025), String::new()] {
        let error = submit(&id).unwrap_err().to_string();
        assert_eq!(error, "invalid job id: expected 1 to 1024 bytes");
    }
    let longest = "x".repeat(1024);
    assert_eq!(submit(&longest).unwrap(), longest);
    let taken = send(platform.addr(), TAKE, &["Host: localhost"], b"").await;
    assert!(taken.body.contains(&longest), "{taken:?}");
}

#[tokio::test]
async fn compressed_bodies_are_refused() {
    let platform = prompt().start().await.unwrap();
    for (encoding, status) in [
        ("gzip", 415),
        ("br", 415),
        ("deflate", 415),
        ("identity, gzip", 415),
        ("zstd", 415),
        ("identity", 200),
        ("Identity", 200),
        ("", 200),
    ] {
        let encoding = format!("Content-Encoding: {encoding}");
        let headers = ["Host: localhost", &encoding];
        let answer = send(platform.addr(), "POST /run", &headers, JOB).await;
        assert_eq!(answer.status, status, "{encoding}: {answer:?}");
        if status == 415 {
            assert!(answer.error().contains(&encoding), "{answer:?}");
            assert_eq!(answer.header("accept-encoding"), Some("identity"));
            let line = "POST /v2/local/job-done/w/j";
            let posted = send(platform.addr(), line, &headers, JOB).await;
            assert_eq!(posted.status, 415, "{posted:?}");
        }
    }
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped() {
    let platform = prompt().start().await.unwrap();
    let addr = platform.addr();
    // A short body, and one that is parsed on another thread.
    for input in ["a".to_owned(), "a".repeat(1_000_000)] {
        let body = format!("\u{feff}{}", json!({ "input": input }));
        let answer = send(addr, "POST /run", &["Host: localhost"], body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let job = send(addr, TAKE, &["Host: localhost"], b"").await;
        let job: Value = serde_json::from_str(&job.body).unwrap();
        assert_eq!(job["input"], input);
        let id = job["id"].as_str().unwrap();
        let output = format!("\u{feff}{}", json!({ "output": input }));
        let done = format!("POST /v2/local/job-done/w/{id}");
        let answer = send(addr, &done, &["Host: localhost"], output.as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // A mark within the text is not one.
    let answer = send(
        addr,
        "POST /run",
        &["Host: localhost"],
        "{\u{feff}}".as_bytes(),
    )
    .await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let platform = prompt()
        .example("\u{feff}{\"input\": 1}")
        .start()
        .await
        .unwrap();
    let start = send(
        platform.addr(),
        "GET /console/start",
        &["Host: localhost"],
        b"",
    )
    .await;
    assert!(
        start.body.contains(r#""example":"{\"input\": 1}""#),
        "{start:?}"
    );
}

#[tokio::test]
async fn a_client_that_sends_its_whole_body_first_can_read_the_refusal() {
    let large = vec![b' '; 60_000_000];
    let medium = &large[..25_000_000];
    let limited = "run_rate=1".parse().unwrap();
    let builder = Platform::builder().api_key("key");
    let platform = builder
        .endpoint_rules("busy", limited)
        .start()
        .await
        .unwrap();
    let addr = platform.addr();
    let keyed = ["Host: localhost", "Authorization: key"];
    let foreign = [keyed[0], keyed[1], "Origin: https://evil.example"];
    let compressed = [keyed[0], keyed[1], "Content-Encoding: gzip"];
    for (line, headers, body, status) in [
        ("POST /runsync", &keyed[..], &large[..], 413),
        ("POST /run", &keyed[..], &large[..11_000_000], 413),
        ("POST /v2/local/job-done/w/j", &keyed[..], &large[..], 413),
        ("POST /v2/local/job-stream/w/j", &keyed[..], medium, 413),
        ("POST /run", &keyed[..1], medium, 401),
        ("POST /v2/local/job-done/w/j", &keyed[..1], medium, 401),
        ("POST /run", &foreign[..], medium, 403),
        ("POST /nothing", &keyed[..], medium, 404),
        ("POST /v2/a.b/run", &keyed[..], medium, 404),
        ("POST /cancel/none", &keyed[..], medium, 404),
        ("POST /health", &keyed[..], medium, 405),
        ("PUT /run", &keyed[..], medium, 405),
        ("POST /runsync?wait=x", &keyed[..], medium, 400),
        ("POST /run", &compressed[..], medium, 415),
    ] {
        let answer = within_a_minute(send(addr, line, headers, body)).await;
        assert_eq!(answer.status, status, "{line}: {answer:?}");
        assert!(!answer.error().is_empty());
    }
    // At most every other call is within the rate limit, unless this machine is very slow.
    let mut tries = 0;
    while send(addr, "POST /v2/busy/run", &keyed, medium).await.status != 429 {
        tries += 1;
        assert!(tries < 10);
    }
    // A body without a length.
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = "POST /run HTTP/1.1\r\nHost: localhost\r\nAuthorization: key\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..25 {
        stream.write_all(b"f4240\r\n").await.unwrap();
        stream.write_all(&large[..1_000_000]).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(read(stream).await.status, 413);
}

/// Reads a response with a `Content-Length`, and returns its head.
async fn head_of(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = stream.read_line(&mut head).await.unwrap();
        assert!(read > 0, "the connection has ended after {head:?}");
    }
    let head = head.to_ascii_lowercase();
    let (_, length) = head.split_once("content-length: ").unwrap();
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    head
}

#[tokio::test]
async fn a_refusal_before_the_body_closes_the_connection_only_if_it_says_so() {
    let platform = Platform::builder()
        .api_key("key")
        .endpoint_rules("busy", "run_rate=1/1h".parse().unwrap())
        .start()
        .await
        .unwrap();
    let keyed = "Host: localhost\r\nAuthorization: key\r\n";
    let first =
        format!("POST /v2/busy/run HTTP/1.1\r\n{keyed}Content-Length: 11\r\n\r\n{{\"input\":1}}");
    let requests = [
        ("POST /run", "Host: localhost\r\n".to_owned(), 401),
        (
            "POST /run",
            format!("{keyed}Origin: http://evil.example\r\n"),
            403,
        ),
        ("POST /nothing", keyed.to_owned(), 404),
        ("PUT /run", keyed.to_owned(), 405),
        ("POST /runsync?wait=x", keyed.to_owned(), 400),
        (
            "POST /run",
            format!("{keyed}Content-Encoding: gzip\r\n"),
            415,
        ),
        ("POST /v2/busy/run", keyed.to_owned(), 429),
    ];
    let connect = async || {
        let stream = TcpStream::connect(platform.addr()).await.unwrap();
        BufReader::new(stream)
    };
    let mut busy = connect().await;
    busy.write_all(first.as_bytes()).await.unwrap();
    assert!(head_of(&mut busy).await.starts_with("http/1.1 200"));
    for (line, headers, status) in &requests {
        // The expected pieces: the head, and what follows once the response has arrived.
        for (length, waits) in [(5, ""), (5, "Expect: 100-continue\r\n"), (25_000_000, "")] {
            let mut stream = connect().await;
            let head =
                format!("{line} HTTP/1.1\r\n{headers}{waits}Content-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let head = within_a_minute(head_of(&mut stream)).await;
            assert!(
                head.starts_with(&format!("http/1.1 {status}")),
                "{line}: {head}"
            );
            assert!(
                head.contains("connection: close\r\n"),
                "{line} {waits}: {head}"
            );
            // The server may have closed the connection.
            let _ = stream.write_all(&vec![b' '; length]).await;
            let mut rest = Vec::new();
            let _ = within_a_minute(stream.read_to_end(&mut rest)).await;
            assert!(rest.is_empty(), "{rest:?}");
        }
        // A body that arrives with the head does not end the connection.
        let mut stream = connect().await;
        for _ in 0..2 {
            let request = format!("{line} HTTP/1.1\r\n{headers}Content-Length: 5\r\n\r\n     ");
            stream.write_all(request.as_bytes()).await.unwrap();
            let head = within_a_minute(head_of(&mut stream)).await;
            assert!(
                head.starts_with(&format!("http/1.1 {status}")),
                "{line}: {head}"
            );
            assert!(!head.contains("connection:"), "{line}: {head}");
        }
    }
    // A body that arrives after the head: the connection ends only after a response with that header.
    let (line, headers, _) = &requests[0];
    let mut stream = connect().await;
    for _ in 0..20 {
        let head = format!("{line} HTTP/1.1\r\n{headers}Content-Length: 50000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(&vec![b' '; 50_000]).await.unwrap();
        if within_a_minute(head_of(&mut stream))
            .await
            .contains("connection: close")
        {
            stream = connect().await;
        }
    }
    // The responses of the HTTP library itself.
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "x".repeat(1 << 20)
    );
    for broken in ["nonsense\r\n\r\n", &long] {
        let mut stream = connect().await;
        // The server may refuse the request before it has all of it.
        let _ = stream.write_all(broken.as_bytes()).await;
        let head = within_a_minute(head_of(&mut stream)).await;
        assert!(head.contains("connection: close\r\n"), "{head}");
    }
}

#[tokio::test]
async fn a_client_that_never_stops_sending_is_disconnected() {
    let platform = Platform::builder().start().await.unwrap();
    let mut stream = TcpStream::connect(platform.addr()).await.unwrap();
    let head = "POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b' '; 1 << 20];
    let sending = async {
        let mut sent = 0;
        while stream.write_all(&piece).await.is_ok() {
            sent += piece.len();
        }
        sent
    };
    let sent = within_a_minute(sending).await;
    assert!(sent < 256 << 20, "{sent}");
}

#[tokio::test]
async fn a_loopback_host_has_many_forms() {
    for host in ["LOCALHOST.", "a.localhost", "127.0.0.1", "[::1]", "::1"] {
        let platform = match Platform::builder().bind(host, 0).start().await {
            Ok(platform) => platform,
            Err(error) if std::net::TcpListener::bind("[::1]:0").is_err() => {
                assert!(host.contains("::1"), "{host}: {error}");
                continue;
            }
            Err(error) => panic!("{host}: {error}"),
        };
        let named = format!("Host: {}", if host == "::1" { "[::1]" } else { host });
        let answer = send(platform.addr(), "GET /health", &[&named], b"").await;
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
    }
    for host in ["[]", "[::1", "[::2]"] {
        let error = Platform::builder().bind(host, 0).start().await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("choose a host name or address"), "{error}");
    }
}

#[tokio::test]
async fn localhost_is_both_loopback_addresses() {
    let platform = Platform::builder()
        .bind("localhost", 0)
        .start()
        .await
        .unwrap();
    let port = platform.addr().port();
    assert!(platform.addr().is_ipv4(), "{}", platform.addr());
    assert_eq!(platform.url(), format!("http://127.0.0.1:{port}"));
    let v4 = SocketAddr::from(([127, 0, 0, 1], port));
    let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port));
    assert_eq!(
        send(v4, "GET /health", &["Host: localhost"], b"")
            .await
            .status,
        200
    );
    let Ok(other) = std::net::TcpListener::bind("[::1]:0") else {
        // This machine does not support IPv6.
        return;
    };
    assert_eq!(
        send(v6, "GET /health", &["Host: localhost"], b"")
            .await
            .status,
        200
    );
    // If another program has one of the addresses, clients of `localhost` would reach it.
    let port = other.local_addr().unwrap().port();
    let error = Platform::builder().bind("LOCALHOST", port).start().await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("stop the program that uses this port"),
        "{error}"
    );
    platform.shutdown().await;
    assert!(TcpStream::connect(v4).await.is_err() && TcpStream::connect(v6).await.is_err());
}
