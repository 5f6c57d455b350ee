//! `podwork new`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::args::{New, UsageError};
use crate::output::print;
use crate::project::in_workspace;

/// Reserved names: those of the crate's dependencies and of Rust's own crates.
const TAKEN: [&str; 15] = [
    "podwork",
    "serde",
    "serde_json",
    "tokio",
    "image",
    "base64",
    "garde",
    "schemars",
    "tempfile",
    "test",
    "core",
    "std",
    "alloc",
    "proc_macro",
    "build",
];

pub(crate) fn new(args: &New) -> Result<ExitCode> {
    let name = crate_name(&args.name).map_err(UsageError::of)?;
    let podwork = args.podwork_path.as_deref().map(checkout).transpose();
    let podwork = podwork.map_err(UsageError::of)?;
    let parent = match args.name.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let nested = in_workspace(parent);
    let files = args.template.files(name, podwork.as_deref(), nested)?;
    for (path, text) in files {
        let path = args.name.join(path);
        let written = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, text));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let folder = args.name.display();
    print(format_args!(
        "Created {folder}. Next steps:\n  \
         cd {folder}\n  \
         cargo test       # test the handler, and the whole worker\n  \
         podwork dev      # run it locally, and restart it after each change\n  \
         podwork image    # build its image\n\
         The first build compiles all dependencies: up to 6 minutes on 2 cores. Later builds take seconds.\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the name of the crate at a path, which must not exist yet.
fn crate_name(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.context("not a valid crate name: use letters, digits, `-` and `_`")?;
    check_name(name)?;
    if path.exists() {
        bail!(
            "{} already exists: choose another name, or move it away",
            path.display()
        );
    }
    Ok(name)
}

fn check_name(name: &str) -> Result<()> {
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(letters) {
        bail!(
            "`{name}` is not a valid crate name: begin with a letter, then use letters, digits, `-` and `_`"
        );
    }
    if TAKEN.contains(&name.replace('-', "_").to_ascii_lowercase().as_str()) {
        bail!(
            "`{name}` is the name of a crate that workers use: choose another, such as `my-{name}`"
        );
    }
    Ok(())
}

/// Returns the full path of a checkout.
fn checkout(path: &Path) -> Result<std::path::PathBuf> {
    let full = path
        .canonicalize()
        .with_context(|| format!("cannot find {}", path.display()))?;
    if !full.join("runtime/Cargo.toml").is_file() {
        bail!(
            "{} is not a checkout of podwork: it has no runtime/Cargo.toml",
            path.display()
        );
    }
    Ok(full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_crates() {
        for name in ["a", "my-worker", "Caption_2"] {
            check_name(name).unwrap();
        }
        for name in ["", "2x", "-a", "a b", "ä", "serde", "serde-json", "test"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
