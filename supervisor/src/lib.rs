//! Child processes that end with their parent, and process 1 of an image. Internal to podwork.
//!
//! The kernel's death signal (`PR_SET_PDEATHSIG`) follows the thread that started the child, and does not reach
//! grandchildren. So [`supervised`] puts a process in between, the shim: the program itself, started again. The shim
//! notices the end of its parent by the end of its standard input, and ends all processes below it. It starts no
//! threads, and waits for signals and for its standard input in one loop.
//!
//! [`init`] runs the same loop in process 1.

// Each module imports only from the modules below it.

// The parent's side of a supervised child.
#[cfg(unix)]
mod command;

// Process 1 of an image.
#[cfg(unix)]
mod init;

// The process between a program and its child.
#[cfg(unix)]
mod shim;

// The loop of both.
#[cfg(unix)]
mod watch;

// The processes below this one.
#[cfg(unix)]
mod family;

// The running program, to start it again.
#[cfg(unix)]
mod program;

// The received signals.
#[cfg(unix)]
mod signals;

#[cfg(unix)]
pub use command::{KILL, kill_group, supervised};
#[cfg(unix)]
pub use init::{can_be_init, init};
#[cfg(unix)]
pub use shim::shim;
#[cfg(unix)]
pub use signals::is_ignored;

/// The process group of a supervised child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessGroup {
    /// A group of its own: Ctrl-C reaches only the parent, which decides about the child.
    Own,
    /// The group of the parent: the child can use the terminal, for example to ask for a password.
    Terminal,
}
