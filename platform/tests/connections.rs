//! Very many connections that say nothing, to the program itself.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The program, on a free port.
struct Program {
    child: Child,
    addr: String,
}

impl Program {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_podwork-platform"))
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let addr = said.lines().find_map(|line| {
            let line = line.unwrap();
            let url = line.strip_prefix("# Console: http://")?;
            Some(url.trim_end_matches('/').to_owned())
        });
        let addr = addr.expect("it says where it is");
        Self { child, addr }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.addr).unwrap()
    }

    /// Memory in use, bytes.
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
        // It may have ended by itself, and then the test has failed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Raises how many files this process and its children may have open; how many connections that allows.
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
fn ten_thousand_idle_connections_hold_nobody_up() {
    let connections = room().min(10_000);
    assert!(
        connections >= 1000,
        "{connections} connections are allowed here"
    );
    let program = Program::start();
    program.assert_well();
    let before = program.memory();
    let mut after = Vec::new();
    for _ in 0..2 {
        let mut idle: Vec<TcpStream> = (0..connections).map(|_| program.connect()).collect();
        for (n, stream) in idle.iter_mut().enumerate() {
            let begun: &[u8] = match n % 3 {
                0 => b"",
                1 => b"GET /health HT",
                _ => b"POST /run HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n{\"in",
            };
            stream.write_all(begun).unwrap();
        }
        program.assert_well();
        after.push(program.memory());
        for stream in &mut idle {
            stream.shutdown(Shutdown::Write).unwrap();
            // Until the other side has closed it, too; how it does so is not asked.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    println!("{connections} connections: {before} bytes of memory before, then {after:?}");
    // Each wave takes the room of the one before.
    assert!(after[1] < after[0] * 3 / 2, "{after:?}");
    assert!(after[1] < before + connections as u64 * 40_000, "{after:?}");
}
