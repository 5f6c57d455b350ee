//! Child processes that end with their parent, and process 1 of an image. Internal to podwork.
//!
//! The kernel's death signal (`PR_SET_PDEATHSIG`) follows the thread that started the child, and does not reach
//! grandchildren. So [`supervised`] puts a process in between, the shim: the program itself, started again. The shim
//! notices the end of its parent by the end of its standard input, and ends all processes below it. It starts no
//! threads, and waits for signals and for its standard input in one loop.
//!
//! [`init`] runs the same loop in process 1.

#![cfg_attr(not(unix), allow(unused))]

#[cfg(unix)]
mod command;
#[cfg(unix)]
mod family;
#[cfg(unix)]
mod init;
#[cfg(unix)]
mod program;
#[cfg(unix)]
mod shim;
#[cfg(unix)]
mod signals;
#[cfg(unix)]
mod watch;

#[cfg(unix)]
pub use command::{KILL, ProcessGroup, kill_group, supervised};
#[cfg(unix)]
pub use init::{can_be_init, init};
#[cfg(unix)]
pub use shim::shim;
#[cfg(unix)]
pub use signals::is_ignored;
