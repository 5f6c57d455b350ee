//! Worker processes that the tool starts.

use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;

use super::supervised::{ProcessGroup, Supervised};
use crate::output::{note, report};

/// A worker process that the tool started.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    pub(crate) id: String,
    child: Supervised,
    /// The tasks that print its standard output and standard error.
    relays: [JoinHandle<()>; 2],
    /// `true` once SIGTERM was sent: a second one would end the worker immediately.
    told: bool,
}

/// The limit on reading the output of a worker that has exited.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The limit on the output of [`ask`], in bytes.
const MOST_SAID: u64 = 4 << 20;

impl WorkerProcess {
    /// Starts a worker in its own process group, so that Ctrl-C reaches only the tool, which then stops the worker.
    pub(crate) fn start(id: String, command: &Command) -> Result<Self> {
        let mut child = Supervised::start(command, ProcessGroup::Own, |command| {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        })
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let out = child
            .stdout()
            .map(|out| tokio::spawn(relay(out, id.clone(), false)));
        let err = child
            .stderr()
            .map(|err| tokio::spawn(relay(err, id.clone(), true)));
        let relays = [out, err].map(|relay| relay.unwrap_or_else(|| tokio::spawn(async {})));
        Ok(Self {
            id,
            child,
            relays,
            told: false,
        })
    }

    /// Waits until the worker and its descendants have exited and their output is printed.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().await?;
        for relay in &mut self.relays {
            if !relay.is_finished() && tokio::time::timeout(LAST_WORDS, &mut *relay).await.is_err()
            {
                relay.abort();
            }
        }
        Ok(status)
    }

    /// Asks the worker to shut down once its jobs in flight have ended.
    pub(crate) fn terminate(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            self.child.terminate();
        }
    }

    /// Kills the worker.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await;
    }
}

/// Runs a program, and returns its standard output if it succeeds in time. The platform's variables are removed from
/// its environment, so that a program that ignores its arguments does not fetch jobs.
pub(crate) async fn ask(
    mut command: Command,
    patience: Duration,
) -> Result<Option<Vec<u8>>, Elapsed> {
    let given = command.get_envs().map(|(name, _)| name.to_owned());
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in given.chain(inherited).collect::<Vec<_>>() {
        if name.to_string_lossy().starts_with("RUNPOD_") {
            command.env_remove(name);
        }
    }
    let answer = async {
        let mut child = Supervised::start(&command, ProcessGroup::Own, |command| {
            command.stdout(Stdio::piped()).stderr(Stdio::null());
        })
        .ok()?;
        let mut said = Vec::new();
        let out = child.stdout()?;
        out.take(MOST_SAID).read_to_end(&mut said).await.ok()?;
        child.wait().await.ok()?.success().then_some(said)
    };
    tokio::time::timeout(patience, answer).await
}

/// Prints a worker's output line by line, with log records in readable form.
async fn relay(from: impl AsyncRead + Unpin, id: String, err: bool) {
    let mut lines = BufReader::new(from).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = readable(&String::from_utf8_lossy(&line));
        if err {
            note(format_args!("{id} | {line}"));
        } else {
            report(format_args!("{id} | {line}"));
        }
    }
}

/// Formats a line of a worker's log. Workers log JSON if the platform's variables are set.
fn readable(line: &str) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Logged {
        request_id: Option<String>,
        message: String,
        level: String,
    }

    let line = line.trim_end_matches('\r');
    let Ok(logged) = serde_json::from_str::<Logged>(line) else {
        return line.to_owned();
    };
    let Logged { message, level, .. } = &logged;
    match &logged.request_id {
        Some(job) => format!("{level:5} | {job} | {message}"),
        None => format!("{level:5} | {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_log_lines_are_formatted_and_other_output_is_kept() {
        let line = r#"{"requestId":"j1","message":"done","level":"INFO"}"#;
        assert_eq!(readable(line), "INFO  | j1 | done");
        let line = r#"{"requestId":null,"message":"ready","level":"WARN"}"#;
        assert_eq!(readable(line), "WARN  | ready");
        for other in [
            "plain",
            r#"{"message":"mine"}"#,
            r#"{"message":"a","level":"b","more":1}"#,
        ] {
            assert_eq!(readable(other), other);
        }
    }
}
