//! Runs a worker binary the way a user starts it.
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "a panic is an assertion in a test"
)]

use std::process::{Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::process_status::process_status;

/// A worker binary in an empty folder, with one variable of the platform in its environment: the one that skips the
/// checks of memory and disk, because tests must pass on any machine.
#[derive(Debug)]
#[must_use = "does nothing until it is started"]
pub struct Binary {
    folder: TempDir,
    command: Command,
}

impl Binary {
    /// Prepares a run of `program`, the path of the binary.
    pub fn new(program: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .env_remove("CARGO_MANIFEST_DIR");
        for (name, _) in std::env::vars() {
            if name.starts_with("RUNPOD_") || name.starts_with("OTEL_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.env("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true");
        Self { folder, command }
    }

    /// Writes a file to the folder in which the binary runs.
    pub fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    /// Writes a file that need not be text.
    pub fn bytes(self, name: &str, content: &[u8]) -> Self {
        std::fs::write(self.folder.path().join(name), content).unwrap();
        self
    }

    /// Replaces standard output.
    pub fn stdout(mut self, output: impl Into<Stdio>) -> Self {
        self.command.stdout(output);
        self
    }

    /// Replaces standard error.
    pub fn stderr(mut self, output: impl Into<Stdio>) -> Self {
        self.command.stderr(output);
        self
    }

    /// Sets environment variables.
    pub fn env(mut self, variables: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        self.command.envs(variables);
        self
    }

    /// Runs the binary until it exits.
    pub async fn output(mut self) -> Output {
        // Unlike `output()`, this keeps outputs that were replaced.
        let child = self.command.spawn().unwrap();
        let output = tokio::time::timeout(Duration::from_mins(1), child.wait_with_output());
        output.await.expect("the program exits").unwrap()
    }

    /// Expects exit code 1 and one line on standard error, and returns that line.
    pub async fn complaint(self) -> String {
        let output = self.output().await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    /// Starts the binary.
    pub fn start(mut self) -> Started {
        let mut child = self.command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Started {
            child,
            lines,
            _folder: self.folder,
        }
    }
}

/// A running worker binary.
#[derive(Debug)]
pub struct Started {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
}

impl Started {
    /// Waits for a line of standard output that contains `part`.
    pub async fn line(&mut self, part: &str) -> String {
        let waiting = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("more output");
                if line.contains(part) {
                    return line;
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_mins(1), waiting).await;
        found.unwrap_or_else(|_| panic!("no line with {part:?}"))
    }

    /// Waits for a line that contains `part`, and returns the URL in that line.
    pub async fn url(&mut self, part: &str) -> String {
        let line = self.line(part).await;
        let from = line.find("http://").unwrap();
        let url = line[from..].split([' ', '"', '\'']).next();
        url.unwrap().to_owned()
    }

    /// Returns the next line of standard output, or `None` at its end.
    pub async fn next_line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(Duration::from_mins(1), self.lines.next_line());
        line.await.expect("a line or end of output").unwrap()
    }

    /// Returns the id of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal, such as `-TERM`.
    pub async fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill")
            .args([signal, &id])
            .status()
            .await
            .unwrap();
        assert!(sent.success());
    }

    /// Returns whether the binary is still running.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Returns the peak memory usage in bytes. Works only on Linux.
    #[must_use]
    pub fn peak_memory(&self) -> usize {
        process_status(self.id(), "VmHWM") * 1024
    }

    /// Waits until the binary exits on its own, without reading its standard output, and returns the exit code.
    pub async fn code_unread(mut self) -> Option<i32> {
        let ended = tokio::time::timeout(Duration::from_mins(1), self.child.wait());
        ended.await.expect("the program exits").unwrap().code()
    }

    /// Waits until the binary exits on its own, and returns the exit code.
    pub async fn code(mut self) -> Option<i32> {
        let ending = async {
            // A full pipe would block the program.
            while self.lines.next_line().await.unwrap().is_some() {}
            self.child.wait().await.unwrap().code()
        };
        tokio::time::timeout(Duration::from_mins(1), ending)
            .await
            .expect("the program exits")
    }
}
