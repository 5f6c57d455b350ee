//! Standard output, beside the log: test runs, directions and schemas.

use std::fmt::Display;
use std::io::{self, Write as _};

use crate::error::Error;

/// Prints a text on standard output. A reader that has closed it, such as `head`, is not an error: the rest is dropped.
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
