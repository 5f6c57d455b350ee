//! Cargo's metadata, with its progress: cargo may download the index and all dependencies first.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use cargo_metadata::{Metadata, MetadataCommand};

use super::NO_CARGO;
use super::cargo_error::CargoError;

/// Runs `cargo metadata`. Prints the lines in which cargo reports its progress to standard error, as they arrive.
///
/// # Errors
/// Returns an error with the message of cargo.
pub(super) fn metadata(command: &MetadataCommand) -> Result<Metadata> {
    let mut command = command.cargo_command();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context(NO_CARGO)?;
    let out = child
        .stdout
        .take()
        .context("cargo metadata has no output")?;
    let err = child
        .stderr
        .take()
        .context("cargo metadata has no output")?;
    let messages = std::thread::spawn(|| messages(err));
    let mut printed = String::new();
    let read = BufReader::new(out).read_to_string(&mut printed);
    let status = child.wait().context("cannot wait for cargo metadata")?;
    let messages = messages.join().unwrap_or_default();
    if !status.success() {
        return Err(CargoError::read(&messages).into());
    }
    read.context("cannot read the output of cargo metadata")?;
    MetadataCommand::parse(printed.trim()).context("cannot read the output of cargo metadata")
}

/// Prints the progress, and returns the other messages.
fn messages(from: impl Read) -> String {
    let mut messages = String::new();
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        if is_progress(&line) && messages.is_empty() {
            // An error means that nobody reads the progress.
            let _ = writeln!(std::io::stderr(), "{line}");
        } else {
            messages.push_str(&line);
            messages.push('\n');
        }
    }
    messages
}

/// Returns whether a line is progress, such as `    Updating crates.io index`. Cargo aligns its verbs to the right.
fn is_progress(line: &str) -> bool {
    let verb = line.trim_start().split(' ').next().unwrap_or_default();
    let indent = line.len() - line.trim_start().len();
    indent + verb.len() == 12 && verb.starts_with(|first: char| first.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_not_part_of_the_error() {
        let printed = "    Updating crates.io index\n Downloading crates ...\n  Downloaded a v1.0.0\nerror: failed\n\n\
                       Caused by:\n    Updating is not possible\n";
        let expected = "error: failed\n\nCaused by:\n    Updating is not possible\n";
        assert_eq!(messages(printed.as_bytes()), expected);
        for line in ["error: a", "Caused by:", "  failed to parse", ""] {
            assert!(!is_progress(line), "{line}");
        }
    }
}
