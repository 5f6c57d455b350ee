//! A file server whose responses a test controls byte by byte.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The server. It shuts down when dropped.
#[derive(Debug)]
pub struct Hostile {
    addr: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

/// The connection of one request. It is closed when dropped.
#[derive(Debug)]
pub struct Conn {
    /// The request line, as received, and the headers in lower case.
    pub head: String,
    /// The number of earlier requests.
    pub before: usize,
    stream: TcpStream,
}

impl Hostile {
    /// Starts the server on a free loopback port. Calls `answer` for each request.
    ///
    /// # Panics
    /// Panics if no port is available.
    pub async fn start<F: Future<Output = ()> + Send>(
        answer: impl Fn(Conn) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a loopback port");
        let addr = listener.local_addr().expect("the port's address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let seen = Arc::clone(&requests);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), answer.clone());
                connections.spawn(async move {
                    let Some(head) = read_head(&mut stream).await else {
                        return;
                    };
                    let before = {
                        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.push(head.clone());
                        seen.len() - 1
                    };
                    answer(Conn {
                        head,
                        before,
                        stream,
                    })
                    .await;
                });
            }
        });
        Self {
            addr,
            requests,
            _tasks: tasks,
        }
    }

    /// Returns the port of the server.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Returns the URL of a path on the server.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.addr)
    }

    /// Returns the heads of all requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let (first, rest) = head.split_once("\r\n")?;
    Some(format!("{first}\n{}", rest.to_lowercase()))
}

impl Conn {
    /// Returns the requested path and query, without the leading slash.
    #[must_use]
    pub fn path(&self) -> &str {
        let target = self.head.split(' ').nth(1).unwrap_or_default();
        target.trim_start_matches('/')
    }

    /// Returns the value of a request header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Returns the first byte of the requested range.
    #[must_use]
    pub fn range(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }

    /// Sends raw bytes, and returns whether that succeeded.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends a complete response: status, header lines and body.
    pub async fn answer(&mut self, status: &str, headers: &[&str], body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut head = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n",
            body.len()
        );
        for line in headers {
            head.push_str(line);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        if self.send(head).await {
            self.send(body).await;
        }
    }

    /// Waits until the client closes the connection.
    pub async fn gone(mut self) {
        while let Ok(1..) = self.stream.read(&mut [0; 64]).await {}
    }
}
