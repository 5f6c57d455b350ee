//! Requests and responses as bytes, with headers that an ordinary client does not let a test choose.

use std::net::SocketAddr;

use podwork_platform::{Builder, Platform};
use podwork_tests::within_a_minute;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A response, as received.
#[derive(Debug)]
pub(super) struct RawResponse {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl RawResponse {
    /// Returns the value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Returns the error in the body.
    pub(super) fn error(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        body["error"].as_str().unwrap().to_owned()
    }
}

/// Sends a request with exactly these headers, and reads the response.
pub(super) async fn send(
    addr: SocketAddr,
    line: &str,
    headers: &[&str],
    body: &[u8],
) -> RawResponse {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let headers: String = headers
        .iter()
        .flat_map(|header| [*header, "\r\n"])
        .collect();
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // As many clients do, sends the whole body before it reads.
    stream.write_all(body).await.unwrap();
    read(stream).await
}

/// Reads the response to a request after which the platform closes the connection.
pub(super) async fn read(mut stream: TcpStream) -> RawResponse {
    let mut response = Vec::new();
    let reading = stream.read_to_end(&mut response);
    within_a_minute(reading).await.unwrap();
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    RawResponse {
        status: head[9..12].parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// The body of a request.
pub(super) const JOB: &[u8] = br#"{"input": 1}"#;
/// The line of a poll.
pub(super) const TAKE: &str = "GET /v2/local/job-take/w?job_in_progress=0";

/// A platform that holds no calls open.
pub(super) fn prompt() -> Builder {
    let rules = "poll_hold=1ms,stream_hold=1ms,run_rate=0,runsync_rate=0,wait=1s";
    Platform::builder().rules(rules.parse().unwrap())
}
