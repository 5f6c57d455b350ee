//! Tests of `podwork dev` with a program that stands in for a worker and builds in a second.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::common::{closed, full, podwork};

/// The limit on each wait: builds are slow while other builds run in parallel.
const PATIENCE: Duration = Duration::from_mins(5);
/// The interval at which a signal is sent again.
const AGAIN: Duration = Duration::from_millis(200);

/// A program that runs until a signal ends it, and describes no handler.
const PARKED: &str = r#"
fn main() {
    if std::env::args().any(|flag| flag == "--rp_schema") {
        std::process::exit(2);
    }
    println!("up");
    loop {
        std::thread::park();
    }
}
"#;

/// A program that ends after SIGTERM once it can read a line from `release`.
const DRAINING: &str = r#"
use std::os::unix::process::CommandExt;

const SCRIPT: &str = "
    trap 'echo draining; read line < release; echo finished; exit 0' TERM
    echo up
    sleep 600 & wait
";

fn main() {
    if std::env::args().any(|flag| flag == "--rp_schema") {
        std::process::exit(2);
    }
    panic!("{}", std::process::Command::new("sh").args(["-c", SCRIPT]).exec());
}
"#;

/// Creates a package without dependencies.
fn package(main: &str) -> (TempDir, PathBuf) {
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().canonicalize().unwrap().join("stand-in");
    fs::create_dir_all(folder.join("src")).unwrap();
    let manifest =
        "[package]\nname = \"stand-in\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/main.rs"), main).unwrap();
    (outside, folder)
}

fn command(folder: &Path) -> Command {
    let mut command = podwork(folder, &["dev", "--port", "0"]);
    // Does not wait for other builds.
    command.env("CARGO_TARGET_DIR", folder.join("target"));
    command
}

/// A running `podwork dev`, and the lines of its output.
struct Dev {
    child: Child,
    output: Receiver<String>,
    errors: Receiver<String>,
}

impl Dev {
    fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = lines_of(child.stdout.take().unwrap());
        let errors = lines_of(child.stderr.take().unwrap());
        Self {
            child,
            output,
            errors,
        }
    }

    /// Waits for a line of standard output that contains `part`.
    fn line(&self, part: &str) -> String {
        line_in(&self.output, part)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended, and returns the rest of its standard output.
    fn ended(mut self) -> Vec<String> {
        let mut rest = Vec::new();
        loop {
            match self.output.recv_timeout(PATIENCE) {
                Ok(line) => rest.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("not ended: {rest:?}"),
            }
        }
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{rest:?}");
        rest
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It has already ended, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // The test may have ended.
            let _ = sender.send(line);
        }
    });
    receiver
}

fn line_in(lines: &Receiver<String>, part: &str) -> String {
    loop {
        let line = lines.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|error| panic!("no line with {part:?}: {error}"));
        if line.contains(part) {
            return line;
        }
    }
}

/// Sends a request to a platform, and returns the response.
fn post(address: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Starts `podwork dev` with this standard output, until `read` has read it. Waits for its end, and returns its exit code
/// and its standard error.
fn run_until_ended(
    folder: &Path,
    output: Stdio,
    read: impl FnOnce(&mut Child),
) -> (Option<i32>, String) {
    let mut command = command(folder);
    let mut child = command
        .stdout(output)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    read(&mut child);
    let (id, (sender, ended)) = (Pid::from_child(&child), channel());
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(PATIENCE) else {
        kill_process(id, Signal::KILL).unwrap();
        panic!("not ended within {PATIENCE:?}");
    };
    let output = output.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

#[test]
fn a_closed_reader_ends_it_quietly_and_a_full_disk_is_an_error() {
    let (_outside, folder) = package(PARKED);
    // As with `podwork dev | head -1`.
    let read_a_line = |child: &mut Child| {
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert!(line.contains("Console: http://"), "{line}");
    };
    for (code, said) in [
        run_until_ended(&folder, closed(), |_| {}),
        run_until_ended(&folder, Stdio::piped(), read_a_line),
    ] {
        assert_eq!(code, Some(0), "{said}");
        assert!(!said.contains("error") && !said.contains("panic"), "{said}");
    }
    let (code, said) = run_until_ended(&folder, full(), |_| {});
    assert_eq!(code, Some(1), "{said}");
    let error = "error: cannot write to standard output: No space left on device";
    assert!(said.contains(error), "{said}");
}

#[test]
fn a_webhook_that_fails_is_a_warning() {
    let (_outside, folder) = package(PARKED);
    let dev = Dev::start(command(&folder));
    let console = dev.line("Console: http://");
    let (_, address) = console.split_once("http://").unwrap();
    let (address, _) = address.split_once('/').unwrap();
    // Nothing listens on port 1.
    let job = r#"{"input": 1, "webhook": "http://127.0.0.1:1/hook"}"#;
    let queued = post(address, "/run", job);
    let (_, id) = queued.split_once(r#""id":""#).unwrap();
    let (id, _) = id.split_once('"').unwrap();
    let cancelled = post(address, &format!("/cancel/{id}"), "");
    assert!(cancelled.contains("CANCELLED"), "{cancelled}");
    let warning = line_in(&dev.errors, "Webhook call failed.");
    assert!(
        warning.contains("http://127.0.0.1:1/") && warning.contains("refused"),
        "{warning}"
    );
    dev.signal(Signal::INT);
    dev.ended();
}

#[test]
fn signals_in_quick_succession_count_as_one_and_a_later_one_kills_the_worker() {
    let (_outside, folder) = package(DRAINING);
    let release = folder.join("release");
    let made = Command::new("mkfifo").arg(&release).status().unwrap();
    assert!(made.success());
    for pair in [[Signal::INT, Signal::INT], [Signal::INT, Signal::TERM]] {
        let dev = Dev::start(command(&folder));
        dev.line("| up");
        for signal in pair {
            dev.signal(signal);
        }
        dev.line("| draining");
        // Opened in both directions, a FIFO needs no reader.
        let released = fs::File::options().read(true).write(true).open(&release);
        let mut released = released.unwrap();
        released.write_all(b"now\n").unwrap();
        let rest = dev.ended();
        assert!(
            rest.iter().any(|line| line.ends_with("| finished")),
            "{rest:?}"
        );
        assert_eq!(rest.last().unwrap(), "podwork | Stopped.");
    }

    let dev = Dev::start(command(&folder));
    dev.line("| up");
    dev.signal(Signal::INT);
    dev.line("| draining");
    // Repetitions count as the first signal for a while.
    loop {
        match dev.output.recv_timeout(AGAIN) {
            Ok(line) if line == "podwork | Stopped." => break,
            Ok(line) => assert!(!line.contains("finished"), "{line}"),
            Err(RecvTimeoutError::Timeout) => dev.signal(Signal::INT),
            Err(RecvTimeoutError::Disconnected) => panic!("not stopped in order"),
        }
    }
    dev.ended();
}

/// A machine without further watches of files, or without any.
const NO_EVENTS: &str = r#"
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int inotify_init1(int flags) {
    if (strcmp(getenv("FAILS"), "init") == 0) {
        errno = EMFILE;
        return -1;
    }
    return syscall(SYS_inotify_init1, flags);
}

int inotify_add_watch(int inotify, const char *path, uint32_t events) {
    errno = ENOSPC;
    return -1;
}
"#;

#[test]
fn without_events_of_files_it_polls_says_so_and_notices_an_edit() {
    for fails in ["init", "watch"] {
        let (outside, folder) = package(PARKED);
        let (source, library) = (outside.path().join("no.c"), outside.path().join("no.so"));
        fs::write(&source, NO_EVENTS).unwrap();
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"])
            .args([&library, &source]);
        assert!(cc.status().unwrap().success());

        let mut command = command(&folder);
        command.env("LD_PRELOAD", &library).env("FAILS", fails);
        let dev = Dev::start(command);
        let reason = dev.line("Looking at the sources every second, as with --poll: ");
        assert!(reason.contains("cannot watch"), "{fails}: {reason}");
        dev.line("| up");
        let main = PARKED.replace("up", "edited");
        fs::write(folder.join("src/main.rs"), main).unwrap();
        dev.line("| edited");
        dev.signal(Signal::INT);
        let rest = dev.ended();
        // The reason is shown once.
        assert!(!rest.iter().any(|line| line.contains("--poll")), "{rest:?}");
    }
}
