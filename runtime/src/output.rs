//! The prints of a worker itself, beside its log: test runs, directions, schemas and errors.

use std::fmt::Display;
use std::io::{self, Write as _};

#[cfg(any(feature = "local", feature = "schema"))]
use crate::error::Error;

/// Prints a text on standard output. A reader that has closed it, such as `head`, is not an error: the rest is dropped.
#[cfg(any(feature = "local", feature = "schema"))]
pub(crate) fn print(text: impl Display) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(Error::System {
            what: "write to standard output",
            source,
        }),
        _ => Ok(()),
    }
}

/// Prints a line on standard error. Ignores errors, because there is no other place to report them.
pub(crate) fn note(line: impl Display) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(format!("{line}\n").as_bytes());
}
