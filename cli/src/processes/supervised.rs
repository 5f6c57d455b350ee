//! Child processes that end when the tool ends.

use std::process::{Command as StdCommand, ExitStatus};

use anyhow::Result;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

pub(crate) use podwork_supervisor::ProcessGroup;

/// A child process. When this is dropped, or when the tool ends for whatever reason, the child and all its descendants
/// get SIGTERM, and SIGKILL if they do not end. Its standard input is empty.
#[derive(Debug)]
pub(crate) struct Supervised {
    child: Child,
    /// The process ends when this is closed.
    lifeline: Option<ChildStdin>,
    /// The id of the process, which [`Child::id`] does not return after its end.
    id: Option<u32>,
}

#[cfg(unix)]
impl Supervised {
    /// Starts a child. `streams` sets its standard output and standard error.
    pub(crate) fn start(
        command: &StdCommand,
        group: ProcessGroup,
        streams: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let mut command = Command::from(podwork_supervisor::supervised(command, group)?);
        streams(&mut command);
        let mut child = command.spawn()?;
        Ok(Self {
            lifeline: child.stdin.take(),
            id: child.id().filter(|_| group == ProcessGroup::Own),
            child,
        })
    }

    /// Waits until the process and its descendants have ended.
    pub(crate) async fn wait(&mut self) -> Result<ExitStatus> {
        use std::os::unix::process::ExitStatusExt as _;

        let status = self.child.wait().await?;
        // The supervisor itself was killed.
        if let (Some(id), Some(_)) = (self.id.take(), status.signal()) {
            podwork_supervisor::kill_group(id);
        }
        Ok(status)
    }

    /// Sends SIGTERM to the process, but not to its descendants.
    pub(crate) fn terminate(&mut self) {
        let id = self.child.id().map(u32::cast_signed);
        if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
            // An error means that it has exited already.
            let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        }
    }

    /// Kills the process and its descendants.
    pub(crate) async fn kill(&mut self) {
        use tokio::io::AsyncWriteExt as _;

        if let Some(lifeline) = &mut self.lifeline {
            // An error means that it has exited already.
            let _ = lifeline.write_all(podwork_supervisor::KILL).await;
        }
    }
}

/// Without process groups and signals, a child is killed when this is dropped.
#[cfg(not(unix))]
impl Supervised {
    pub(crate) fn start(
        command: &StdCommand,
        _: ProcessGroup,
        streams: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let mut started = Command::new(command.get_program());
        started
            .args(command.get_args())
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => started.env(name, value),
                None => started.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            started.current_dir(folder);
        }
        streams(&mut started);
        let child = started.spawn()?;
        Ok(Self {
            id: child.id(),
            lifeline: None,
            child,
        })
    }

    pub(crate) async fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    pub(crate) fn terminate(&mut self) {
        // An error means that it has exited already.
        let _ = self.child.start_kill();
    }

    pub(crate) async fn kill(&mut self) {
        self.terminate();
    }
}

impl Supervised {
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub(crate) fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }
}

/// Returns a text for the end of a process: its exit code, and the signal that the code stands for.
pub(crate) fn describe(status: ExitStatus) -> String {
    match status.code() {
        // Shells use these codes, too.
        Some(code @ 129..=159) => format!("exit code {code}, signal {}", code - 128),
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}
