use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::header::RETRY_AFTER;

use super::*;

const TAKE: &str = "https://api/v2/e/job-take/$ID?gpu=H200";
const DONE: &str = "https://api/v2/e/job-done/$RUNPOD_POD_ID/$ID?gpu=H200";

fn take(wanted: usize, holds_jobs: bool) -> WireRequest {
    TakeRequest { wanted, holds_jobs }.into_http(&UrlTemplate::of_take(TAKE, "w1"))
}

fn answer(status: u16, body: &'static str) -> WireAnswer {
    WireAnswer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
    }
}

/// Returns the headers of a request, sorted by name.
fn headers(request: &WireRequest) -> Vec<(&str, &str)> {
    let headers = request.headers.iter();
    let mut headers: Vec<_> = headers
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    headers.sort_unstable();
    headers
}

async fn text(body: Body) -> Bytes {
    body.collect().await.unwrap().to_bytes()
}

#[test]
fn a_take_requests_one_job_or_several() {
    let one = take(1, false);
    assert_eq!(one.method, Method::GET);
    assert_eq!(
        one.url.as_str(),
        "https://api/v2/e/job-take/w1?gpu=H200&job_in_progress=0"
    );
    assert_eq!(headers(&one), [("content-type", "application/json")]);

    let three = take(3, true);
    assert_eq!(
        three.url.as_str(),
        "https://api/v2/e/job-take-batch/w1?gpu=H200&batch_size=3&job_in_progress=1"
    );
    assert_eq!(three.limit, 3 * one.limit);
    assert!(one.limit > limits::RUNSYNC_PAYLOAD);
}

#[test]
fn a_take_returns_jobs_nothing_or_an_error() {
    for status in [200, 201, 202, 203, 206] {
        let taken = TakeRequest::read(&answer(status, r#"{"id": "a", "input": 1}"#)).unwrap();
        assert_eq!(taken.jobs.len(), 1, "{status}");
    }
    for (status, body) in [(204, ""), (400, "asleep"), (200, "")] {
        let taken = TakeRequest::read(&answer(status, body)).unwrap();
        assert!(taken.jobs.is_empty(), "{status}");
    }
    let error = TakeRequest::read(&answer(200, "<html>")).unwrap_err();
    assert!(matches!(error, CallError::Retryable { after: None, .. }));
    let error = TakeRequest::read(&answer(401, "no such key\n")).unwrap_err();
    let CallError::Refused { status, why } = error else {
        panic!("{error:?}");
    };
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(why, "401 Unauthorized: no such key");
}

#[test]
fn a_busy_platform_sets_the_delay() {
    let mut busy = answer(429, "");
    busy.headers.insert(RETRY_AFTER, "3".parse().unwrap());
    let error = TakeRequest::read(&busy).unwrap_err();
    let CallError::Retryable { why, after } = error else {
        panic!("{error:?}");
    };
    assert_eq!(why, "429 Too Many Requests");
    assert_eq!(after, Some(Duration::from_secs(3)));
}

#[test]
fn the_stop_channel_returns_job_ids() {
    let url = UrlTemplate::of_take(TAKE, "w1").stop().unwrap();
    let request = StopRequest { url }.into_http();
    assert_eq!(
        request.url.as_str(),
        "https://api/v2/e/job-stop/w1?gpu=H200"
    );
    let signals = StopRequest::read(&answer(200, r#"{"jobsToStop": ["a", "b"]}"#)).unwrap();
    assert_eq!(signals.jobs_to_stop, ["a", "b"]);
    for (status, body) in [(204, ""), (200, ""), (200, "null")] {
        let signals = StopRequest::read(&answer(status, body)).unwrap();
        assert!(signals.jobs_to_stop.is_empty(), "{status}");
    }
    let error = StopRequest::read(&answer(404, "")).unwrap_err();
    assert!(matches!(error, CallError::Refused { .. }));
}

#[tokio::test]
async fn a_result_is_posted_to_the_url_of_its_job_without_a_copy() {
    let parts = ["{\"output\":", "\"x\"", "}"].map(|part| Bytes::from_static(part.as_bytes()));
    let request = ResultRequest {
        job_id: "a b",
        streams: true,
        body: parts.into(),
    };
    let request = request.into_http(&UrlTemplate::of_worker(DONE, "w1"));
    assert_eq!(request.method, Method::POST);
    assert_eq!(
        request.url.as_str(),
        "https://api/v2/e/job-done/w1/a%20b?gpu=H200&isStream=true"
    );
    assert_eq!(
        headers(&request),
        [("content-type", POST_CONTENT_TYPE), ("x-request-id", "a b")]
    );
    assert_eq!(text(request.body).await, r#"{"output":"x"}"#);
}

#[tokio::test]
async fn progress_is_posted_as_a_result_in_progress() {
    let body = br#"{"status":"IN_PROGRESS","output":1}"#;
    let request = ResultRequest {
        job_id: "a",
        streams: false,
        body: body.to_vec().into(),
    };
    let request = request.into_http(&UrlTemplate::of_worker(DONE, "w1"));
    assert!(
        request
            .url
            .as_str()
            .ends_with("/w1/a?gpu=H200&isStream=false")
    );
    assert_eq!(text(request.body).await, &body[..]);
}

#[test]
fn a_chunk_has_an_idempotency_key() {
    let stream = UrlTemplate::of_worker("https://api/s?worker=$RUNPOD_POD_ID&job=$ID", "w1");
    let request = ChunkRequest {
        job_id: "a",
        key: "run-1",
        body: Body::default(),
    };
    let request = request.into_http(&stream);
    assert_eq!(
        request.url.as_str(),
        "https://api/s?worker=w1&job=a&isStream=false"
    );
    assert_eq!(
        headers(&request),
        [
            ("content-type", POST_CONTENT_TYPE),
            ("idempotency-key", "run-1"),
            ("x-request-id", "a"),
        ]
    );
}

#[test]
fn an_id_that_is_invalid_in_a_header_is_sent_only_in_the_url() {
    let request = ResultRequest {
        job_id: "a\nb",
        streams: false,
        body: Body::default(),
    };
    let request = request.into_http(&UrlTemplate::of_worker(DONE, "w1"));
    assert_eq!(headers(&request), [("content-type", POST_CONTENT_TYPE)]);
    assert!(request.url.as_str().contains("/a%0Ab?"));
}

#[test]
fn a_ping_contains_job_ids_and_the_health_status() {
    let ping = UrlTemplate::of_worker("https://api/v2/e/ping/$RUNPOD_POD_ID", "w1");
    let version = crate::version::VERSION;
    let request = |job_ids: &[String], failing: Option<&Failing>| {
        let timeout = Duration::from_secs(2);
        let ping_request = PingRequest {
            job_ids,
            failing,
            timeout,
        };
        let request = ping_request.into_http(&ping);
        assert_eq!(request.timeout, timeout);
        assert_eq!(headers(&request), []);
        String::from(request.url)
    };
    let idle = request(&[], None);
    assert_eq!(
        idle,
        format!("https://api/v2/e/ping/w1?runpod_version={version}")
    );
    let busy = request(&["a".to_owned(), "b".to_owned()], None);
    assert_eq!(
        busy,
        format!("https://api/v2/e/ping/w1?job_id=a%2Cb&runpod_version={version}")
    );
    let failing = Failing {
        check: "gpu".to_owned(),
        reason: "é".repeat(MAX_REASON + 1),
    };
    let unhealthy = request(&[], Some(&failing));
    let reason = "%C3%A9".repeat(MAX_REASON);
    assert_eq!(
        unhealthy,
        format!(
            "https://api/v2/e/ping/w1?status=unhealthy&check=gpu&reason={reason}&runpod_version={version}"
        )
    );
}

#[test]
fn any_2xx_accepts_a_post_or_a_ping() {
    assert!(accepted(&answer(202, "anything")).is_ok());
    assert!(accepted(&answer(500, "")).is_err());
}
