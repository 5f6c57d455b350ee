//! Server programs, and calls to them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::error::Result;
use crate::instruments::process::memory;

/// A server program, which prints its address.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pub(super) host: String,
    pub(super) worker_env: Vec<(String, String)>,
}

impl Server {
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", Path::new(command.get_program()).display()))?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let mut server = Self {
            child,
            host: String::new(),
            worker_env: Vec::new(),
        };
        for line in BufReader::new(output).lines() {
            let line = line?;
            if let Some((name, value)) = line
                .strip_prefix("export ")
                .and_then(|line| line.split_once('='))
            {
                let value = value.trim_matches(['\'', '"']).to_owned();
                server.worker_env.push((name.to_owned(), value));
            }
            if let Some(url) = line.strip_prefix("# Console: http://") {
                url.trim_end_matches('/').clone_into(&mut server.host);
                return Ok(server);
            }
        }
        Err("the server did not print its address".into())
    }

    pub(super) fn memory(&self) -> Result<u64> {
        Ok(memory(self.child.id())?.now)
    }

    pub(super) fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(&self.host)?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }

    /// Returns one of the job counts of `/health`.
    pub(super) fn health(&self, count: &str) -> Result<u64> {
        let mut stream = self.connect()?;
        stream
            .get_mut()
            .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer
            .split("\r\n\r\n")
            .nth(1)
            .ok_or("/health sent no body")?;
        let health: Value = serde_json::from_str(body)?;
        health["jobs"][count]
            .as_u64()
            .ok_or_else(|| format!("no {count} in {body}").into())
    }

    /// Reads the events of the console until one satisfies `wanted`.
    pub(super) fn until(&self, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let mut stream = self.connect()?;
        stream
            .get_mut()
            .write_all(b"GET /v2/local/console/events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        for line in stream.lines() {
            let line = line?;
            // Lines of the chunked encoding are not events.
            let Some(event) = line.strip_prefix("data: ") else {
                continue;
            };
            if wanted(&serde_json::from_str(event)?) {
                return Ok(());
            }
        }
        Err("the event stream of the console ended".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Posts on a keep-alive connection, and discards the answer. Returns an error if the status is not 200.
pub(super) fn post(connection: &mut BufReader<TcpStream>, path: &str, body: &str) -> Result<()> {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    connection.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(format!("{path}: {line}").into());
    }
    let mut length = 0;
    while line.trim() != "" {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        line.clear();
        connection.read_line(&mut line)?;
    }
    std::io::copy(&mut connection.take(length), &mut std::io::sink())?;
    Ok(())
}
