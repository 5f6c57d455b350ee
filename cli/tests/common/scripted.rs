//! An endpoint whose answers a test scripts.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// An answer.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A status line, header lines and a body.
    Http(&'static str, Vec<String>, String),
    /// No answer, and an open connection.
    Hold,
    /// A body without an end.
    Endless,
}

impl Answer {
    /// An answer with status 200.
    pub(crate) fn ok(body: &str) -> Self {
        Self::status("200 OK", body)
    }

    pub(crate) fn status(line: &'static str, body: &str) -> Self {
        Self::Http(line, Vec::new(), body.to_owned())
    }

    pub(crate) fn header(self, header: &str) -> Self {
        match self {
            Self::Http(line, mut headers, body) => {
                headers.push(header.to_owned());
                Self::Http(line, headers, body)
            }
            other => other,
        }
    }
}

/// The endpoint. Its threads end with the test's process.
pub(crate) struct Endpoint {
    addr: SocketAddr,
    calls: Arc<Calls>,
}

#[derive(Default)]
struct Calls {
    list: Mutex<Vec<String>>,
    added: Condvar,
}

impl Endpoint {
    /// Starts the endpoint on a free loopback port. Passes to `script` the operation, such as `status`, and the number of
    /// its earlier calls.
    pub(crate) fn start(script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let calls: Arc<Calls> = Arc::default();
        let (seen, script) = (Arc::clone(&calls), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                // An error means that the client has closed the connection.
                thread::spawn(move || serve(&stream, &seen, &*script));
            }
        });
        Self { addr, calls }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v2/e", self.addr)
    }

    /// Returns the method, path and body of each call so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.list.lock().unwrap().clone()
    }

    /// Blocks until an operation was called.
    pub(crate) fn until_called(&self, operation: &str) {
        let calls = self.calls.list.lock().unwrap();
        let missing =
            |calls: &mut Vec<String>| !calls.iter().any(|call| operation_of(call) == operation);
        let limit = Duration::from_mins(1);
        let waited = self
            .calls
            .added
            .wait_timeout_while(calls, limit, missing)
            .unwrap();
        assert!(!waited.1.timed_out(), "no call of {operation}");
    }

    /// Returns the number of calls of an operation.
    pub(crate) fn count(&self, operation: &str) -> usize {
        let calls = self.calls();
        let is_it = |call: &&String| operation_of(call) == operation;
        calls.iter().filter(is_it).count()
    }
}

fn operation_of(call: &str) -> &str {
    let path = call.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    path.trim_start_matches("/v2/e/")
        .split('/')
        .next()
        .unwrap_or_default()
}

fn serve(
    stream: &TcpStream,
    seen: &Calls,
    script: &dyn Fn(&str, usize) -> Answer,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim_end().to_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let call = format!(
            "{} {}",
            first.trim_end().trim_end_matches(" HTTP/1.1"),
            String::from_utf8_lossy(&body)
        );
        let operation = operation_of(&call).to_owned();
        let before = {
            let mut list = seen.list.lock().unwrap();
            let before = list.iter().filter(|call| operation_of(call) == operation);
            let before = before.count();
            list.push(call);
            seen.added.notify_all();
            before
        };
        let (line, headers, body) = match script(&operation, before) {
            Answer::Http(line, headers, body) => (line, headers, body),
            Answer::Hold => {
                // Waits until the client closes the connection.
                reader.read_to_end(&mut Vec::new())?;
                return Ok(());
            }
            Answer::Endless => {
                (&*stream).write_all(b"HTTP/1.1 200 OK\r\n\r\n[0")?;
                // Until the client closes the connection.
                loop {
                    (&*stream).write_all(&vec![b' '; 1 << 20])?;
                }
            }
        };
        let mut head = format!("HTTP/1.1 {line}\r\n");
        for header in headers {
            head = format!("{head}{header}\r\n");
        }
        let head = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        (&*stream).write_all(head.as_bytes())?;
    }
}
