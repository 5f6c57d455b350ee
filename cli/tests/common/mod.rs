//! Helpers that run the tool as a user does.
#![allow(
    dead_code,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    missing_docs,
    reason = "in a test it is an assertion, and each test uses some of the helpers"
)]

pub(crate) mod scripted;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Returns the command `podwork` with these arguments, and without the platform's variables.
pub(crate) fn podwork(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwork"));
    command.args(args);
    plain(&mut command, folder);
    command
}

/// Returns the command `cargo` with these arguments.
pub(crate) fn cargo(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(args);
    plain(&mut command, folder);
    command
}

fn plain(command: &mut Command, folder: &Path) {
    command.current_dir(folder);
    for (name, _) in std::env::vars() {
        // Cargo sets variables for this test that would affect the cargo that it starts.
        if name.starts_with("RUNPOD_") || name.starts_with("PODWORK_") || name.starts_with("CARGO_")
        {
            command.env_remove(name);
        }
    }
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        command.env("CARGO_HOME", home);
    }
    // Reuses what the workspace has built.
    command.env(
        "CARGO_TARGET_DIR",
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap(),
    );
}

/// Runs a command that must succeed, and returns its standard output.
pub(crate) fn good(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command with this standard output, and returns its exit code and its standard error.
pub(crate) fn run_to(mut command: Command, output: impl Into<Stdio>) -> (Option<i32>, String) {
    let output = command.stdout(output).output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Returns a pipe that nobody reads any more.
pub(crate) fn closed() -> Stdio {
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    write.into()
}

/// Returns a file on a full disk.
pub(crate) fn full() -> Stdio {
    std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

/// Returns its standard output and standard error.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Returns the JSON object that it printed.
pub(crate) fn object(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

/// The workspace's profile, with which cargo reuses the dependencies that the workspace has built.
const PROFILE: &str = r#"
[profile.dev]
debug = "line-tables-only"

[profile.dev.package."*"]
debug = false
"#;

/// Creates a worker in a folder outside of the workspace, with the versions and the profile of the workspace.
pub(crate) fn new_worker(template: &str) -> (TempDir, PathBuf) {
    let outside = tempfile::tempdir().unwrap();
    let name = format!("my-{template}");
    let checkout = root();
    let args = [
        "new",
        &name,
        "--template",
        template,
        "--podwork-path",
        checkout.to_str().unwrap(),
    ];
    good(podwork(outside.path(), &args));
    let folder = outside.path().join(name);
    std::fs::copy(checkout.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    std::fs::create_dir(outside.path().join(".cargo")).unwrap();
    std::fs::write(outside.path().join(".cargo/config.toml"), PROFILE).unwrap();
    (outside, folder)
}
