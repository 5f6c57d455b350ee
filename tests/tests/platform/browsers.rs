//! Web pages: those of other sites cannot call the platform, and those of allowed origins can.

use podwork_platform::Builder;
use serde_json::Value;

use crate::raw::{JOB, RawResponse, TAKE, prompt, send};

/// Every operation, of clients and of workers, and the pages.
const CALLS: [&str; 22] = [
    "POST /run",
    "POST /v2/local/run",
    "POST /runsync?wait=1000",
    "GET /status/none",
    "POST /status/none",
    "GET /status-sync/none",
    "GET /stream/none",
    "POST /cancel/none",
    "POST /retry/none",
    "POST /purge-queue",
    "GET /health",
    "GET /console/start",
    "GET /console/events",
    TAKE,
    "HEAD /v2/local/job-take/w",
    "GET /v2/local/job-take-batch/w?batch_size=2",
    "GET /v2/local/job-stop/w",
    "POST /v2/local/job-done/w/none",
    "POST /v2/local/job-stream/w/none",
    "GET /v2/local/ping/w",
    "GET /openapi.json",
    "GET /",
];

/// Checks that all operations refuse requests with these headers, and that none of them has had an effect.
async fn refused(builder: Builder, headers: &[&str], calls: &[&str], why: &str) {
    let platform = builder.start().await.unwrap();
    let addr = platform.addr();
    let queued = send(
        addr,
        "POST /run",
        &["Host: localhost", "Authorization: key"],
        JOB,
    )
    .await;
    assert_eq!(queued.status, 200, "{queued:?}");
    for call in calls {
        let answer = send(addr, call, headers, JOB).await;
        assert_eq!(answer.status, 403, "{call} {headers:?}: {answer:?}");
        assert_eq!(
            answer.header("access-control-allow-origin"),
            None,
            "{answer:?}"
        );
        if !call.starts_with("HEAD") {
            assert!(answer.error().contains(why), "{call}: {answer:?}");
        }
    }
    let health = send(
        addr,
        "GET /health",
        &["Host: localhost", "Authorization: key"],
        b"",
    )
    .await;
    let health: Value = serde_json::from_str(&health.body).unwrap();
    assert_eq!(health["jobs"]["inQueue"], 1, "{headers:?}");
    assert_eq!(health["workers"]["idle"], 0, "{headers:?}");
}

#[tokio::test]
async fn pages_of_foreign_origins_are_refused() {
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost:1",
        "http://localhost",
    ] {
        let origin = format!("Origin: {origin}");
        let headers = ["Host: localhost:8000", &origin, "Content-Type: text/plain"];
        refused(prompt(), &headers, &CALLS, "foreign origin").await;
    }
    // Also if the page knows the key.
    let headers = [
        "Host: pods.example",
        "Origin: https://evil.example",
        "Authorization: key",
    ];
    refused(prompt().api_key("key"), &headers, &CALLS, "foreign origin").await;
}

#[tokio::test]
async fn a_rebound_name_is_refused_while_no_key_is_required() {
    for host in [
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "0.0.0.0",
        "[::ffff:0:0]:8000",
    ] {
        let (host, origin) = (format!("Host: {host}"), format!("Origin: http://{host}"));
        refused(prompt(), &[&host, &origin], &CALLS, "foreign host").await;
        refused(prompt(), &[&host], &CALLS, "foreign host").await;
    }
    // Keys of workers do not keep pages from the client API.
    let workers_only = prompt().worker_key("worker-key");
    refused(
        workers_only,
        &["Host: evil.example"],
        &CALLS,
        "foreign host",
    )
    .await;
    // A browser that has been given the platform as its proxy.
    let through_proxy = [
        "POST http://evil.example/run",
        "GET http://evil.example/health",
    ];
    refused(
        prompt(),
        &["Host: localhost"],
        &through_proxy,
        "foreign host",
    )
    .await;
}

#[tokio::test]
async fn links_and_images_of_other_sites_run_and_take_nothing() {
    let is_page = |call: &&str| ["GET /", "GET /openapi.json"].contains(call);
    let calls: Vec<&str> = CALLS.into_iter().filter(|call| !is_page(call)).collect();
    for site in ["cross-site", "same-site"] {
        let site = format!("Sec-Fetch-Site: {site}");
        let navigation = ["Host: localhost", &site, "Sec-Fetch-Mode: navigate"];
        refused(prompt(), &navigation, &calls, "Sec-Fetch-Site").await;
        refused(
            prompt(),
            &["Host: 127.0.0.1", &site],
            &calls,
            "Sec-Fetch-Site",
        )
        .await;
    }
    // Any site may link to the pages.
    let platform = prompt().start().await.unwrap();
    for page in [
        "GET /",
        "GET /docs",
        "GET /page.css",
        "GET /page.js",
        "GET /openapi.json",
    ] {
        let headers = [
            "Host: localhost",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: navigate",
        ];
        let answer = send(platform.addr(), page, &headers, b"").await;
        assert_eq!(answer.status, 200, "{page}: {answer:?}");
    }
}

#[tokio::test]
async fn the_console_and_other_programs_reach_the_platform() {
    let platform = prompt().start().await.unwrap();
    let addr = platform.addr();
    let own = ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors"];
    for (host, origin) in [
        (format!("{addr}"), format!("http://{addr}")),
        (
            format!("localhost:{}", addr.port()),
            format!("http://localhost:{}", addr.port()),
        ),
        ("localhost".to_owned(), "http://localhost:80".to_owned()),
    ] {
        let (host, origin) = (format!("Host: {host}"), format!("Origin: {origin}"));
        let headers = [&host, &origin, own[0], own[1]];
        let answer = send(addr, "POST /run", &headers, JOB).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = send(addr, "GET /console/start", &[&host, own[0]], b"").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // The user has typed the address; a worker or curl; a client of HTTP/1.0.
    for headers in [
        &["Host: localhost", "Sec-Fetch-Site: none"][..],
        &["Host: 127.0.0.1"],
        &[],
    ] {
        let answer = send(addr, "GET /health", headers, b"").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(
        send(addr, TAKE, &["Host: 10.1.2.3:8000"], b"").await.status,
        200
    );
}

#[tokio::test]
async fn with_a_key_the_host_is_not_checked() {
    let platform = prompt().api_key("key").start().await.unwrap();
    let addr = platform.addr();
    for headers in [
        &["Host: pods.example", "Authorization: Bearer key"][..],
        &[
            "Host: pods.example",
            "Authorization: bearer key",
            "Sec-Fetch-Site: cross-site",
        ],
        &[
            "Host: pods.example",
            "Authorization: key",
            "Origin: https://pods.example",
        ],
    ] {
        let answer = send(addr, "POST /run", headers, JOB).await;
        assert_eq!(answer.status, 200, "{headers:?}: {answer:?}");
    }
    let answer = send(addr, "POST /run", &["Host: pods.example"], JOB).await;
    assert_eq!(answer.status, 401, "{answer:?}");
}

#[tokio::test]
async fn names_of_services_can_be_allowed() {
    let builder = prompt()
        .allow_host("platform")
        .allow_host("platform.pods.svc.cluster.local");
    let platform = builder.start().await.unwrap();
    for (host, expected) in [
        ("platform:8000", 200),
        ("Platform.Pods.svc.cluster.local", 200),
        ("localhost:8000", 200),
        ("other:8000", 403),
        ("platform.pods", 403),
    ] {
        let host = format!("Host: {host}");
        let answer = send(platform.addr(), "POST /run", &[&host], JOB).await;
        assert_eq!(answer.status, expected, "{host}: {answer:?}");
    }
    for host in ["", "http://platform", "platform:8000"] {
        let error = prompt()
            .allow_host(host)
            .start()
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("invalid allowed host `{host}`")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_allowed_app_in_a_browser_gets_the_headers_that_it_needs() {
    const APP: &str = "Origin: http://localhost:3000";
    for builder in [prompt(), prompt().api_key("key")] {
        let builder = builder
            .allow_origin("http://localhost:3000/")
            .allow_origin("https://app.example");
        let platform = builder.start().await.unwrap();
        let addr = platform.addr();
        let allows = |answer: &RawResponse| {
            let origin = answer.header("access-control-allow-origin");
            assert_eq!(origin, Some("http://localhost:3000"), "{answer:?}");
            let vary = answer.header("vary").unwrap();
            assert!(vary.to_lowercase().contains("origin"), "{answer:?}");
        };
        // The browser asks first, without the key.
        let preflight = [
            "Host: localhost:8000",
            APP,
            "Sec-Fetch-Site: same-site",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: authorization,content-type",
        ];
        for path in ["/run", "/v2/local/runsync", "/cancel/x"] {
            let answer = send(addr, &format!("OPTIONS {path}"), &preflight, b"").await;
            assert!(matches!(answer.status, 200 | 204), "{answer:?}");
            allows(&answer);
            let methods = answer.header("access-control-allow-methods").unwrap();
            assert!(
                methods.contains("POST") && methods.contains("GET"),
                "{answer:?}"
            );
            let headers = answer.header("access-control-allow-headers");
            assert_eq!(headers, Some("authorization,content-type"));
        }
        let call = [
            "Host: localhost:8000",
            APP,
            "Sec-Fetch-Site: cross-site",
            "Authorization: Bearer key",
        ];
        let answer = send(addr, "POST /run", &call, JOB).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        allows(&answer);
        // An app can read errors, too.
        for (line, body, status) in [
            ("GET /status/none", JOB, 404),
            ("POST /run", b"{", 400),
            ("POST /health", JOB, 405),
            ("POST /nothing", JOB, 404),
        ] {
            let answer = send(addr, line, &call, body).await;
            assert_eq!(answer.status, status, "{answer:?}");
            allows(&answer);
        }
        let foreign = [
            "Host: localhost:8000",
            "Origin: http://localhost:3001",
            preflight[3],
        ];
        let answer = send(addr, "OPTIONS /run", &foreign, b"").await;
        assert_eq!(answer.status, 403);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            None,
            "{answer:?}"
        );
    }
    let keyed = prompt()
        .api_key("key")
        .allow_origin("http://localhost:3000");
    let keyed = keyed.start().await.unwrap();
    let answer = send(keyed.addr(), "POST /run", &["Host: localhost", APP], JOB).await;
    assert_eq!(
        answer.status, 401,
        "an origin does not replace the key: {answer:?}"
    );
    assert!(
        answer.header("access-control-allow-origin").is_some(),
        "{answer:?}"
    );
    for origin in ["*", "null", "localhost:3000", "http://localhost:3000/app"] {
        let error = prompt()
            .allow_origin(origin)
            .start()
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with(&format!("invalid allowed origin `{origin}`")),
            "{error}"
        );
    }
}
