//! Many idle connections to the program.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A number of connections that fits the accept queue of any system. If the queue is full, a client may wait a second.
const BACKLOG: usize = 100;

/// The program, on a free port.
struct Program {
    child: Child,
    addr: String,
}

impl Program {
    /// Starts the program with this standard output, and reads its address from its output.
    fn start(output: Stdio) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_podwork-platform"))
            .args(["--port", "0"])
            .stdout(output)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said: Box<dyn Read> = match child.stdout.take() {
            Some(output) => Box::new(output),
            None => Box::new(child.stderr.take().unwrap()),
        };
        let addr = BufReader::new(said).lines().find_map(|line| {
            let line = line.unwrap();
            let (_, url) = line.split_once("Console: http://")?;
            Some(url.trim_end_matches('/').to_owned())
        });
        let addr = addr.expect("no console URL in the output");
        Self { child, addr }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.addr).unwrap()
    }

    /// Returns the memory in use, in bytes.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
        kilobytes.parse::<u64>().unwrap() * 1024
    }

    fn assert_well(&self) {
        let mut stream = self.connect();
        let request = b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // If the program has already exited, the test has failed anyway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Raises the limit of open files of this process and its children, and returns how many connections it allows.
fn room() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let files = limit.maximum.unwrap_or(u64::MAX);
    usize::try_from(files)
        .unwrap_or(usize::MAX)
        .saturating_sub(200)
}

#[test]
fn a_closed_standard_output_stops_nothing() {
    let (read, write) = io::pipe().unwrap();
    drop(read);
    let program = Program::start(write.into());
    program.assert_well();
}

#[test]
fn ten_thousand_idle_connections_hold_nobody_up() {
    let connections = room().min(10_000);
    assert!(
        connections >= 1000,
        "the file limit allows only {connections} connections"
    );
    let program = Program::start(Stdio::piped());
    program.assert_well();
    let before = program.memory();
    let mut after = Vec::new();
    for _ in 0..2 {
        let mut idle = Vec::new();
        for n in 0..connections {
            if n % BACKLOG == 0 {
                // The answer arrives once all earlier connections are accepted.
                program.assert_well();
            }
            let mut stream = program.connect();
            let begun: &[u8] = match n % 3 {
                0 => b"",
                1 => b"GET /health HT",
                _ => b"POST /run HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n{\"in",
            };
            stream.write_all(begun).unwrap();
            idle.push(stream);
        }
        program.assert_well();
        after.push(program.memory());
        for stream in &mut idle {
            stream.shutdown(Shutdown::Write).unwrap();
            // Reads until the other side has closed the connection, with or without an error.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    println!("{connections} connections: {before} bytes of memory before, then {after:?}");
    // The second wave reuses the memory of the first.
    assert!(after[1] < after[0] * 3 / 2, "{after:?}");
    assert!(after[1] < before + connections as u64 * 40_000, "{after:?}");
}
