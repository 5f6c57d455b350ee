//! The parent's side of supervision.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::ProcessGroup;
use crate::program::own_program;
use crate::shim::{IN_OWN_GROUP, IN_TERMINAL};
use crate::watch::KILL_BYTE;

/// The content to write to the lifeline to end the child and all its descendants with SIGKILL.
pub const KILL: &[u8] = &[KILL_BYTE];

/// Returns a command that runs `command` so that it, and all its descendants, end when this process ends, for whatever
/// reason. Takes over the program, its arguments, the folder and changes of the environment; a call of `env_clear` is
/// not seen. This program must call [`shim`](crate::shim) first in `main`.
///
/// The standard input of the returned command is a pipe, the lifeline. Keep it: when it is closed, all processes get
/// SIGTERM, and those that have not ended 5 s later SIGKILL. Write [`KILL`] to it to kill them immediately. The child's own
/// standard input is empty. Configure the other streams on the returned command.
///
/// Signals for the returned process are passed on to the child. When the child has ended, its descendants get SIGTERM,
/// and SIGKILL 1 s later. The returned process then exits with the exit code of the child: 128 plus the number of the
/// signal if a signal ended it, and 127 if it could not be started.
///
/// # Errors
/// Returns an error if the path of this program is unknown.
pub fn supervised(command: &Command, group: ProcessGroup) -> io::Result<Command> {
    let mut shim = Command::new(own_program()?);
    let mode = match group {
        ProcessGroup::Own => {
            shim.process_group(0);
            IN_OWN_GROUP
        }
        ProcessGroup::Terminal => IN_TERMINAL,
    };
    shim.arg(mode)
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shim.env(name, value),
            None => shim.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shim.current_dir(folder);
    }
    shim.stdin(Stdio::piped());
    Ok(shim)
}

/// Kills the processes that are left in the group of a shim that a signal ended. Call it after the end of a process that
/// [`supervised`] put into its [own group](ProcessGroup::Own).
pub fn kill_group(shim: u32) {
    if let Some(group) = Pid::from_raw(shim.cast_signed()) {
        // An error means that the group is empty.
        let _ = kill_process_group(group, Signal::KILL);
    }
}
