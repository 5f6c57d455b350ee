//! The tools that build images.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde::Serialize;

/// A tool that builds images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ImageTool {
    Docker,
    Podman,
    Buildah,
}

/// An image that was built.
#[derive(Debug)]
pub(crate) struct BuiltImage {
    pub(crate) bytes: u64,
    pub(crate) layers: usize,
}

impl ImageTool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Buildah => "buildah",
        }
    }

    /// Returns the first tool that works, or the reason why each of them does not.
    pub(crate) fn find() -> Result<Self, String> {
        let mut problems = Vec::new();
        for engine in Self::value_variants() {
            match engine.works() {
                Ok(()) => return Ok(*engine),
                Err(problem) => problems.push(format!("{}: {problem}", engine.name())),
            }
        }
        Err(problems.join("; "))
    }

    /// Returns an error with the reason if the tool does not work.
    pub(crate) fn works(self) -> Result<(), String> {
        // `docker version` prints the client's version without a daemon, and then fails.
        let asked = match self {
            Self::Docker | Self::Podman => ["info"].as_slice(),
            Self::Buildah => ["version"].as_slice(),
        };
        let output = Command::new(self.name())
            .args(asked)
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(said
                    .lines()
                    .last()
                    .unwrap_or("failed without an error message")
                    .trim()
                    .to_owned())
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err("not installed".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Returns the build command, without the build context.
    pub(crate) fn build(self, tag: &str) -> Command {
        let mut command = Command::new(self.name());
        command.args(["build", "--tag", tag]);
        if self == Self::Buildah {
            // The other tools cache layers by default.
            command.arg("--layers");
        }
        command
    }

    /// Makes the build ignore the paths that `file` lists. The file is beside the Dockerfile and named after it.
    pub(crate) fn ignore(self, command: &mut Command, file: &Path) {
        // docker finds the file by its name.
        if self != Self::Docker {
            command.arg("--ignorefile").arg(file);
        }
    }

    /// Returns the size of an image, and the number of its layers.
    pub(crate) fn inspect(self, tag: &str) -> Result<BuiltImage> {
        match self {
            Self::Docker | Self::Podman => {
                let format = "{{.Size}} {{len .RootFS.Layers}}";
                let said = self.ask(&["image", "inspect", "--format", format, tag])?;
                let numbers = said.split_once(' ').context("no size in the output")?;
                Ok(BuiltImage {
                    bytes: numbers.0.parse()?,
                    layers: numbers.1.parse()?,
                })
            }
            Self::Buildah => {
                let layers = "{{len .OCIv1.RootFS.DiffIDs}}";
                let layers = self.ask(&["inspect", "--type", "image", "--format", layers, tag])?;
                let sizes = self.ask(&["images", "--format", "{{.Size}}", tag])?;
                // An image with several names is listed once for each.
                let size = sizes.lines().next().unwrap_or_default();
                Ok(BuiltImage {
                    bytes: bytes(size).with_context(|| format!("invalid image size `{size}`"))?,
                    layers: layers.parse()?,
                })
            }
        }
    }

    fn ask(self, args: &[&str]) -> Result<String> {
        let name = self.name();
        let output = Command::new(name)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {name}"))?;
        if !output.status.success() {
            bail!(
                "{name} {}: {}",
                args[0],
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Parses a size as buildah prints it, such as `112 MB`.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ')?;
    let unit = ["B", "KB", "MB", "GB", "TB"]
        .iter()
        .position(|name| name.eq_ignore_ascii_case(unit))?;
    let bytes = number.parse::<f64>().ok()? * 1000_f64.powi(i32::try_from(unit).ok()?);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size is a whole number"
    )]
    (bytes >= 0.0).then_some(bytes as u64)
}

/// Formats a size in megabytes.
pub(crate) fn readable(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        assert_eq!(bytes("112 MB"), Some(112_000_000));
        assert_eq!(bytes("1.5 kB"), Some(1500));
        assert_eq!(bytes("many"), None);
        assert_eq!(readable(112_340_000), "112.3 MB");
    }
}
