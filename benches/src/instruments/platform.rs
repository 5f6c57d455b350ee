//! The platform process, which the benchmark controls.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::error::Result;
use crate::instruments::messages::{PlatformCommand, PlatformReply};

/// The limit on the time until a reply that does not wait for jobs.
const ANSWER: Duration = Duration::from_mins(1);

/// A running platform; dropping this kills it.
#[derive(Debug)]
pub(crate) struct PlatformProcess {
    child: Child,
    input: ChildStdin,
    replies: Receiver<String>,
}

impl PlatformProcess {
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let (sender, replies) = channel();
        // The thread ends with the platform.
        thread::spawn(move || {
            for line in BufReader::new(output)
                .lines()
                .map_while(std::io::Result::ok)
            {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            input,
            replies,
        })
    }

    pub(crate) fn tell(&mut self, command: &PlatformCommand) -> Result<()> {
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        Ok(self.input.write_all(&line)?)
    }

    /// Restarts the platform with a latency in milliseconds, and returns the variables that connect a worker to it.
    pub(crate) fn anew(&mut self, latency: u64) -> Result<Vec<(String, String)>> {
        self.tell(&PlatformCommand::Start { latency })?;
        match self.reply(ANSWER)? {
            Some(PlatformReply::Started { env }) => Ok(env),
            other => Err(format!("the platform did not start: {other:?}").into()),
        }
    }

    /// Waits until the jobs of the last command are queued.
    pub(crate) fn queued(&mut self) -> Result<()> {
        match self.reply(ANSWER)? {
            Some(PlatformReply::Queued) => Ok(()),
            other => Err(format!("the jobs were not queued: {other:?}").into()),
        }
    }

    /// Returns the next reply. Returns `None` if no reply arrives in time.
    pub(crate) fn reply(&mut self, patience: Duration) -> Result<Option<PlatformReply>> {
        match self.replies.recv_timeout(patience) {
            Ok(line) => match serde_json::from_str(&line)? {
                PlatformReply::Failed(why) => Err(why.into()),
                reply => Ok(Some(reply)),
            },
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("the platform exited".into()),
        }
    }
}

impl Drop for PlatformProcess {
    fn drop(&mut self) {
        // An error means that it has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
