//! The program: its command line, its warnings, and many idle connections.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

/// A number of connections that fits the accept queue of any system. If the queue is full, a client may wait a second.
const BACKLOG: usize = 100;
const MINUTE: Duration = Duration::from_mins(1);

/// Returns the program with these arguments, on a free port.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwork-platform"));
    command
        .args(["--port", "0"])
        .args(args)
        .env_remove("PODWORK_API_KEY")
        .env_remove("PODWORK_WORKER_KEY")
        .env_remove("PODWORK_WEBHOOK_SECRET")
        .stderr(Stdio::piped());
    command
}

/// Returns the lines of standard error as they arrive.
fn lines_of(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // The test may have ended.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// A running program.
struct Program {
    child: Child,
    addr: String,
    warnings: Option<Receiver<String>>,
}

impl Program {
    /// Starts the program with this standard output, and reads its address from its output.
    fn start(output: Stdio) -> Self {
        Self::start_with(output, &[])
    }

    fn start_with(output: Stdio, args: &[&str]) -> Self {
        Self::run(command(args), output)
    }

    fn run(mut command: Command, output: Stdio) -> Self {
        let mut child = command.stdout(output).spawn().unwrap();
        let (said, warnings): (Box<dyn Read>, _) = match child.stdout.take() {
            Some(output) => (Box::new(output), child.stderr.take().map(lines_of)),
            None => (Box::new(child.stderr.take().unwrap()), None),
        };
        let addr = BufReader::new(said).lines().find_map(|line| {
            let line = line.unwrap();
            let (_, url) = line.split_once("Console: http://")?;
            Some(url.trim_end_matches('/').to_owned())
        });
        let addr = addr.expect("no console URL in the output");
        Self {
            child,
            addr,
            warnings,
        }
    }

    /// Waits for a line of standard error that contains `part`.
    fn warning(&self, part: &str) -> String {
        let warnings = self.warnings.as_ref().unwrap();
        loop {
            let line = warnings.recv_timeout(MINUTE);
            let line = line.unwrap_or_else(|error| panic!("no line with {part:?}: {error}"));
            if line.contains(part) {
                return line;
            }
        }
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

    /// Sends a request with these headers, and returns the response.
    fn send(&self, line: &str, headers: &[&str], body: &str) -> String {
        let mut stream = self.ask(line, headers, body);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Sends a request with these headers, and returns the connection.
    fn ask(&self, line: &str, headers: &[&str], body: &str) -> TcpStream {
        let mut stream = self.connect();
        let headers: String = headers
            .iter()
            .flat_map(|header| [*header, "\r\n"])
            .collect();
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    /// Queues a job of an endpoint, and returns its id.
    fn submit(&self, base: &str, body: &str) -> String {
        let line = format!("POST {base}/run");
        id_in(&self.send(&line, &["Host: localhost"], body)).to_owned()
    }

    /// Sends `/status-sync`, and returns the connection once the platform holds the call open. Only one such call may be
    /// open at the endpoint.
    fn hold_status(&self, base: &str, id: &str) -> TcpStream {
        let call = || {
            let line = format!("GET {base}/status-sync/{id}");
            let held = self.ask(&line, &["Host: localhost"], "");
            held.set_nonblocking(true).unwrap();
            held
        };
        let (began, mut held) = (Instant::now(), call());
        loop {
            // A response means that the call below came first.
            if held.peek(&mut [0]).is_ok() {
                held = call();
            }
            let line = format!("GET {base}/status/{id}");
            let other = self.send(&line, &["Host: localhost"], "");
            if other.starts_with("HTTP/1.1 429") {
                held.set_nonblocking(false).unwrap();
                return held;
            }
            assert!(began.elapsed() < MINUTE, "{other}");
        }
    }

    /// Sends a request until its response contains `part`.
    fn until(&self, line: &str, part: &str) {
        let began = Instant::now();
        loop {
            let answer = self.send(line, &["Host: localhost"], "");
            if answer.contains(part) {
                return;
            }
            assert!(began.elapsed() < MINUTE, "no {part:?} in {answer:?}");
        }
    }

    /// Runs and cancels a job with this webhook.
    fn end_job_with(&self, webhook: &str) {
        let id = self.submit("", &format!(r#"{{"input": 1, "webhook": "{webhook}"}}"#));
        let cancelled = self.send(&format!("POST /cancel/{id}"), &["Host: localhost"], "");
        assert!(cancelled.contains("CANCELLED"), "{cancelled}");
    }

    fn assert_well(&self) {
        let answer = self.send("GET /health", &["Host: localhost"], "");
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

/// Returns the id of the job in a response.
fn id_in(answer: &str) -> &str {
    let (_, after) = answer
        .split_once(r#""id":""#)
        .unwrap_or_else(|| panic!("no id: {answer}"));
    after.split('"').next().unwrap()
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
fn a_full_disk_is_an_error_and_a_closed_reader_is_not() {
    let run = |args: &[&str], output: Stdio| {
        let run = Command::new(env!("CARGO_BIN_EXE_podwork-platform"))
            .args(args)
            .stdout(output)
            .output()
            .unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        (run.status.code(), said)
    };
    for args in [["--port", "0"].as_slice(), &["--help"], &["--version"]] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let (code, said) = run(args, full.into());
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(
            said.starts_with("error: cannot write to standard output: No space left"),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let (read, write) = io::pipe().unwrap();
    drop(read);
    assert_eq!(run(&["--help"], write.into()), (Some(0), String::new()));
}

#[test]
fn a_refused_thread_is_an_error_of_one_line() {
    for threads in ["1", "4"] {
        let mut command = command(&[]);
        // No thread can have a stack of 1 PiB.
        command.env("RUST_MIN_STACK", (1_u64 << 50).to_string());
        command.env("TOKIO_WORKER_THREADS", threads);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let error = "error: cannot start an async runtime: cannot start a thread: Resource temporarily unavailable";
        assert!(said.starts_with(error), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn invalid_arguments_are_exit_code_2() {
    for args in [
        ["--rules", "nonsense=1"],
        ["--fault", "nonsense=1"],
        ["--endpoint", "a b"],
        ["--api-key", ""],
        ["--worker-key", " "],
        ["--allow-host", "a b"],
        ["--allow-origin", "*"],
        ["--schema", "none.json"],
        ["--webhook-secret-file", "none"],
        ["--nonsense", "1"],
    ] {
        let program = Command::new(env!("CARGO_BIN_EXE_podwork-platform"))
            .args(["--port", "0"])
            .args(args)
            .output()
            .unwrap();
        assert_eq!(program.status.code(), Some(2), "{args:?}: {program:?}");
    }
}

#[test]
fn an_empty_key_starts_nothing() {
    for (args, variable, complaint) in [
        (&["--api-key", ""][..], None, "invalid API key: it is empty"),
        (&["--api-key="], None, "invalid API key: it is empty"),
        (&["--api-key", " "], None, "invalid API key: it is empty"),
        (
            &["--api-key", "", "--host", "0.0.0.0"],
            None,
            "invalid API key: it is empty",
        ),
        (
            &["--api-key", "k", "--worker-key", ""],
            None,
            "invalid worker key: it is empty",
        ),
        (&[], Some("PODWORK_API_KEY"), "invalid API key: it is empty"),
        (
            &[],
            Some("PODWORK_WORKER_KEY"),
            "invalid worker key: it is empty",
        ),
        (
            &[],
            Some("PODWORK_WEBHOOK_SECRET"),
            "webhook secret: it is empty",
        ),
        (
            &["--webhook-secret-file", "/dev/null"],
            None,
            "webhook secret: it is empty",
        ),
    ] {
        let mut command = command(args);
        if let Some(variable) = variable {
            command.env(variable, "");
        }
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{args:?} {variable:?}");
        assert!(
            said.starts_with("error: ") && said.contains(complaint),
            "{args:?}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_secret_that_is_not_utf_8_starts_nothing() {
    for variable in ["PODWORK_API_KEY", "PODWORK_WEBHOOK_SECRET"] {
        let mut command = command(&[]);
        command.env(
            variable,
            OsStr::from_bytes(b"\xffnot UTF-8: 16 bytes or more"),
        );
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{variable}: {said}");
        assert!(said.contains("UTF-8"), "{variable}: {said}");
    }
}

#[test]
fn hosts_and_origins_are_allowed_by_options() {
    let args = [
        "--allow-host",
        "platform",
        "--allow-host",
        "p.ns.svc",
        "--allow-origin",
        "http://localhost:3000",
    ];
    let program = Program::start_with(Stdio::piped(), &args);
    for (headers, status) in [
        (&["Host: platform:8000"][..], 200),
        (&["Host: p.ns.svc"], 200),
        (&["Host: other"], 403),
        (&["Host: localhost", "Origin: http://localhost:3000"], 200),
        (&["Host: localhost", "Origin: http://localhost:3001"], 403),
    ] {
        let answer = program.send("GET /health", headers, "");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{headers:?}: {answer}"
        );
    }
    let mut keyed = command(&[]);
    keyed.env("PODWORK_API_KEY", "hunter2");
    let help = String::from_utf8(keyed.arg("--help").output().unwrap().stdout).unwrap();
    assert!(
        help.contains("PODWORK_API_KEY") && !help.contains("hunter2"),
        "{help}"
    );
}

#[test]
fn warnings_are_shown_on_standard_error() {
    // Nothing listens on port 1.
    let program = Program::start_with(Stdio::piped(), &[]);
    program.end_job_with("http://user:PASSWORD@127.0.0.1:1/x?token=SECRET");
    let warning = program.warning("Webhook call failed.");
    assert!(
        warning.contains("job_id=") && warning.contains("refused"),
        "{warning}"
    );
    assert!(warning.contains("http://127.0.0.1:1/…"), "{warning}");
    assert!(
        !["user", "PASSWORD", "token", "SECRET"]
            .iter()
            .any(|part| warning.contains(part)),
        "{warning}"
    );
    // Text of a request cannot forge a line, or control the terminal.
    program.end_job_with(r"http://127.0.0.1:1/\nFORGED\u001b[2J");
    let warning = program.warning("Webhook call failed.");
    assert!(
        !warning.contains("FORGED") && !warning.contains('\u{1b}'),
        "{warning}"
    );
    // A path may be a secret, as in the URLs of chat services.
    program.end_job_with("http://127.0.0.1:1/services/T000/B000/SECRET");
    let warning = program.warning("Webhook call failed.");
    assert!(
        warning.contains("http://127.0.0.1:1/…") && !warning.contains("SECRET"),
        "{warning}"
    );

    // A platform that others can reach warns of that, and calls public addresses only.
    let program = Program::start_with(Stdio::piped(), &["--host", "0.0.0.0"]);
    program.warning("No API key is set: anyone who can reach this address can run jobs.");
    for receiver in [
        "http://127.0.0.1:1/",
        "http://localhost:1/",
        "http://[::1]:1/",
        "http://169.254.169.254/",
    ] {
        program.end_job_with(receiver);
        let warning = program.warning("Webhook call failed.");
        assert!(warning.contains("is not a public address"), "{warning}");
    }
    for (args, reason) in [
        (
            &["--host", "0.0.0.0", "--allow-private-webhooks"][..],
            "refused",
        ),
        (
            &["--allow-private-webhooks=false"],
            "is not a public address",
        ),
    ] {
        let program = Program::start_with(Stdio::piped(), args);
        program.end_job_with("http://127.0.0.1:1/");
        let warning = program.warning("Webhook call failed.");
        assert!(warning.contains(reason), "{warning}");
    }
}

#[test]
fn sigterm_answers_held_calls_with_where_the_job_stands() {
    let mut program = Program::start_with(Stdio::piped(), &["--rules", "status_concurrency=1"]);
    let mut held = Vec::new();
    for (endpoint, status) in [("local", "IN_PROGRESS"), ("other", "IN_QUEUE")] {
        let base = format!("/v2/{endpoint}");
        let id = program.submit(&base, r#"{"input": 1}"#);
        let runsync = program.ask(
            &format!("POST {base}/runsync"),
            &["Host: localhost"],
            r#"{"input": 1}"#,
        );
        program.until(&format!("GET {base}/health"), r#""inQueue":2"#);
        if endpoint == "local" {
            for _ in 0..2 {
                program.until(&format!("GET {base}/job-take/w"), r#""input":1"#);
            }
        }
        let status_sync = program.hold_status(&base, &id);
        held.push((runsync, "sync-".to_owned(), status));
        held.push((status_sync, id, status));
    }

    kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
    for (mut stream, id, status) in held {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(id_in(&answer).starts_with(&id), "{id}: {answer}");
        assert!(
            answer.contains(&format!(r#""status":"{status}""#)),
            "{answer}"
        );
    }
    let ended = program.child.wait().unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn a_webhook_on_this_machine_is_called_without_a_proxy() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let (sender, calls) = channel();
    thread::spawn(move || {
        for mut stream in receiver.incoming().map_while(Result::ok) {
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            // The test may have ended.
            let _ = sender.send((line, stream));
        }
    });
    let mut command = command(&[]);
    // Nothing listens on port 1.
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
    for name in ["NO_PROXY", "no_proxy"] {
        command.env_remove(name);
    }
    let program = Program::run(command, Stdio::piped());
    for (n, host) in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"]
        .iter()
        .enumerate()
    {
        program.end_job_with(&format!("http://{host}:{port}/{n}"));
        let (line, _) = calls.recv_timeout(MINUTE).unwrap();
        assert_eq!(line, format!("POST /{n} HTTP/1.1\r\n"), "{host}");
    }
    program.end_job_with(&format!("http://receiver.example:{port}/"));
    let warning = program.warning("receiver.example");
    assert!(warning.contains("refused"), "{warning}");
}

#[test]
fn ten_thousand_idle_connections_delay_no_call() {
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
                _ => b"POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n{\"in",
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
