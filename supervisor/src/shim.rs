//! The process between a program and its child.

use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal};

use crate::signals::{OF_TERMINALS, REQUESTS, ReceivedSignals};
use crate::watch::Supervisor;

/// The first argument of a shim. The program of the child and its arguments follow.
pub(crate) const IN_OWN_GROUP: &str = "--podwork-supervise";
/// The same for a shim in the process group of its parent.
pub(crate) const IN_TERMINAL: &str = "--podwork-supervise-in-terminal";

/// The exit code of a shim that cannot start its child, as of a shell.
const NOT_STARTED: u8 = 127;

/// Runs this process as a shim if [`supervised`](crate::supervised) started it, and returns the exit code of the child.
/// Returns `None` in all other processes. A program that calls `supervised` must call this first in `main`, before it
/// starts a thread.
pub fn shim() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let first = args.next()?;
    let in_terminal = first == OsStr::new(IN_TERMINAL);
    if !in_terminal && first != OsStr::new(IN_OWN_GROUP) {
        return None;
    }
    let program = args.next()?;
    let code = run(&program, args, in_terminal).unwrap_or_else(|error| {
        eprintln!("error: cannot run {}: {error}", program.display());
        NOT_STARTED
    });
    Some(ExitCode::from(code))
}

fn run(program: &OsStr, args: impl Iterator<Item = OsString>, in_terminal: bool) -> io::Result<u8> {
    // Orphans below this process become its children, so none is lost.
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(Pid::INIT))?;
    let signals = ReceivedSignals::new()?;
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .spawn()?;
    // A terminal sends these signals to the child as well.
    let passed_on = |signal: &Signal| !in_terminal || !OF_TERMINALS.contains(signal);
    let passed_on: Vec<_> = REQUESTS.into_iter().filter(passed_on).collect();
    Supervisor::new(
        Pid::from_child(&child),
        signals,
        &passed_on,
        Some(io::stdin()),
    )
    .run()
}
