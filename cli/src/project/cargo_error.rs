//! The error that cargo prints.

use std::fmt;

/// An error of cargo, in one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CargoError(String);

impl CargoError {
    /// Reads the error from what cargo printed on standard error, which begins with progress and warnings.
    pub(crate) fn read(stderr: &str) -> Self {
        let lines = || {
            stderr
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
        };
        let errors = || lines().skip_while(|line| error(line).is_none());
        let mut text = String::new();
        let mut join = |line: &str, between| {
            if !text.is_empty() {
                text.push_str(between);
            }
            text.push_str(line);
        };
        match errors().next().and_then(error) {
            Some(first) => {
                join(first, "");
                let mut between = " ";
                for line in errors().skip(1) {
                    // Later errors are often a consequence of the first one.
                    if error(line).is_some() || line.starts_with("warning: ") {
                        break;
                    }
                    if line == "Caused by:" {
                        between = ": ";
                        continue;
                    }
                    join(line, std::mem::replace(&mut between, " "));
                }
            }
            None => lines().for_each(|line| join(line, " ")),
        }
        if text.is_empty() {
            text.push_str("cargo failed without a message");
        }
        Self(text)
    }
}

/// Returns the message of a line that begins an error.
fn error(line: &str) -> Option<&str> {
    line.strip_prefix("error: ").or_else(|| {
        line.strip_prefix("error")
            .filter(|rest| rest.starts_with('['))
    })
}

impl fmt::Display for CargoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CargoError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_and_warnings_are_not_the_error() {
        let stderr = "\
    Updating crates.io index
warning: spurious network error (3 tries remaining): [6] Could not resolve hostname
error: failed to get `serde` as a dependency of package `mine v0.1.0 (/tmp/mine)`

Caused by:
  failed to load source for dependency `serde`

Caused by:
  Unable to update registry `crates-io`
";
        assert_eq!(
            CargoError::read(stderr).to_string(),
            "failed to get `serde` as a dependency of package `mine v0.1.0 (/tmp/mine)`: failed to load source for \
             dependency `serde`: Unable to update registry `crates-io`"
        );
    }

    #[test]
    fn any_output_of_cargo_gives_an_error() {
        for (stderr, expected) in [
            (
                "error: no such command: `metadata`\n",
                "no such command: `metadata`",
            ),
            (
                "error[E0463]: no crate\nerror: aborting",
                "[E0463]: no crate",
            ),
            (
                "error: failed to parse manifest at `/a/Cargo.toml`\n\nCaused by:\n  no targets\n  add src/lib.rs\n",
                "failed to parse manifest at `/a/Cargo.toml`: no targets add src/lib.rs",
            ),
            ("killed\n", "killed"),
            ("", "cargo failed without a message"),
        ] {
            assert_eq!(CargoError::read(stderr).to_string(), expected);
        }
    }
}
