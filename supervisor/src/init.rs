//! Process 1 of an image.

use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::termios::tcsetpgrp;

use crate::program::own_program;
use crate::signals::{REQUESTS, ReceivedSignals};
use crate::watch::Supervisor;

/// Returns whether this process is process 1 of its PID namespace, as the entry point of an image is, and can start its
/// own program again. Orphaned processes become children of process 1.
pub fn can_be_init() -> bool {
    std::process::id() == 1 && own_program().is_ok()
}

/// Runs this program again as a child, with the same arguments, and returns its exit code: 128 plus the number of the
/// signal if a signal ended it. Meanwhile, passes signals on to the child, and collects orphaned processes. Call it in
/// process 1 only.
///
/// A supervisor that only collects processes can collect all of them. In the program itself this would take the results
/// from others who wait for their own children, such as [`std::process::Child::wait`].
///
/// # Errors
/// Returns an error if the program cannot be started again.
pub fn init() -> io::Result<u8> {
    let program = own_program()?;
    let signals = ReceivedSignals::new()?;
    let mut args = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    // In a group of its own, the child receives a signal of the terminal only once.
    let child = command.args(args).process_group(0).spawn()?;
    let child = Pid::from_child(&child);
    if io::stdin().is_terminal() && tcsetpgrp(io::stdin(), child).is_ok() {
        // The child may already have been stopped for its use of the terminal. An error means that it has ended.
        let _ = kill_process_group(child, Signal::CONT);
    }
    Supervisor::new(child, signals, &REQUESTS, None).run()
}
