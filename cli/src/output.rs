//! Standard output and standard error, for all commands.

use std::fmt::{self, Display};
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Error, Result};
use tokio::sync::Notify;

/// The reader of standard output has closed it, as `head` does after its last line. `main` exits without a message.
#[derive(Debug)]
pub(crate) struct OutputClosed;

impl Display for OutputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader has closed standard output")
    }
}

impl std::error::Error for OutputClosed {}

/// Prints a text on standard output.
///
/// # Errors
/// Returns [`OutputClosed`] if nobody reads the output any more, and another error if it cannot be written, for example
/// to a full disk.
pub(crate) fn print(text: impl Display) -> Result<()> {
    let mut out = io::stdout().lock();
    written(write!(out, "{text}").and_then(|()| out.flush()))
}

/// Prints a line on standard output, with the errors of [`print`].
pub(crate) fn print_line(text: impl Display) -> Result<()> {
    print(format_args!("{text}\n"))
}

/// The first error of [`report`].
static LOST: Mutex<Option<Error>> = Mutex::new(None);
static IS_LOST: Notify = Notify::const_new();

/// Prints a line of a command that runs until it is stopped. [`lost`] returns its error, if any.
pub(crate) fn report(text: impl Display) {
    if let Err(error) = print_line(text) {
        let mut lost = LOST.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert(error);
        IS_LOST.notify_one();
    }
}

/// Waits until [`report`] fails, and returns its error.
pub(crate) async fn lost() -> Error {
    loop {
        IS_LOST.notified().await;
        let mut lost = LOST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = lost.take() {
            return error;
        }
    }
}

/// Converts the result of writing to standard output to that of [`print`].
pub(crate) fn written(result: io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        result => result.context("cannot write to standard output"),
    }
}

/// Prints a line on standard error. Ignores errors, because there is no other place to report them.
pub(crate) fn note(text: impl Display) {
    let mut err = io::stderr().lock();
    // One write for the whole line, so that lines of several programs do not mix.
    let _ = err.write_all(format!("{text}\n").as_bytes());
}
