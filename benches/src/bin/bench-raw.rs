//! The raw floor: the cost of the same jobs over sockets alone, with no HTTP library.
//!
//! It writes requests by hand, and reads only the status, the length and the body of an answer. It accepts only what
//! the platform sends, HTTP/1.1 with a `Content-Length`, so it is not a general HTTP client.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use bytes::{Buf as _, BytesMut};
use podwork_benches::Result;
use podwork_benches::contenders::floor::{FloorAnswer, FloorConnection, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The largest body, in bytes, that is copied after its head and written with one call. A larger body needs a second
/// call.
const COPIED: usize = 16 * 1024;
/// The space that is reserved for the next read while the length of the answer is unknown, in bytes.
const READ: usize = 8 * 1024;

struct RawConnection {
    stream: TcpStream,
    host: String,
    /// The buffer for requests, which is reused.
    request: Vec<u8>,
    /// The received bytes that are not part of an answer yet.
    received: BytesMut,
}

impl RawConnection {
    async fn answer(&mut self) -> Result<FloorAnswer> {
        let head = loop {
            if let Some(head) = Head::parse(&self.received)? {
                break head;
            }
            self.received.reserve(READ);
            self.receive().await?;
        };
        self.received.advance(head.bytes);
        self.received
            .reserve(head.content_length.saturating_sub(self.received.len()));
        while self.received.len() < head.content_length {
            self.receive().await?;
        }
        Ok(FloorAnswer {
            status: head.status,
            body: self.received.split_to(head.content_length).freeze(),
        })
    }

    async fn receive(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err("the platform closed the connection".into()),
            _ => Ok(()),
        }
    }
}

impl FloorConnection for RawConnection {
    async fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            host: addr.to_string(),
            request: Vec::new(),
            received: BytesMut::new(),
        })
    }

    async fn get(&mut self, path: &str) -> Result<FloorAnswer> {
        let Self { host, request, .. } = self;
        request.clear();
        write!(request, "GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")?;
        self.stream.write_all(&self.request).await?;
        self.answer().await
    }

    async fn post(&mut self, path: &str, body: String) -> Result<FloorAnswer> {
        let Self { host, request, .. } = self;
        let length = body.len();
        request.clear();
        write!(
            request,
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n"
        )?;
        if length <= COPIED {
            request.extend_from_slice(body.as_bytes());
            self.stream.write_all(&self.request).await?;
        } else {
            self.stream.write_all(&self.request).await?;
            self.stream.write_all(body.as_bytes()).await?;
        }
        self.answer().await
    }
}

/// The relevant part of the head of an answer.
#[derive(Debug, PartialEq)]
struct Head {
    status: u16,
    content_length: usize,
    /// The length of the head in bytes, including the empty line.
    bytes: usize,
}

impl Head {
    /// Parses the head. Returns `None` while it is incomplete.
    fn parse(received: &[u8]) -> Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&received[..end])?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok())
            .ok_or_else(|| format!("not an HTTP/1.1 answer: {head}"))?;
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let content_length = match length {
            Some((_, length)) => length.trim().parse()?,
            None if status == 204 => 0,
            None => return Err(format!("an answer without Content-Length: {head}").into()),
        };
        Ok(Some(Self {
            status,
            content_length,
            bytes: end + 4,
        }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run::<RawConnection>().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_head_once_it_is_complete() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ndate: x\r\n\r\n{}";
        let bytes = answer.len() - 2;
        assert_eq!(Head::parse(&answer[..bytes - 1]).unwrap(), None);
        let head = Head {
            status: 200,
            content_length: 2,
            bytes,
        };
        assert_eq!(Head::parse(answer).unwrap(), Some(head));
        let empty = Head::parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        assert_eq!(empty.unwrap().content_length, 0);
    }

    #[test]
    fn rejects_answers_that_it_cannot_delimit() {
        for invalid in [
            &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..],
            b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n",
        ] {
            assert!(Head::parse(invalid).is_err());
        }
    }
}
