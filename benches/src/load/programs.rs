//! The programs of the load benchmark.

use std::path::PathBuf;
use std::process::Command;

use super::server::Server;
use crate::contenders::work::{CONCURRENCY, WORK, Workload};
use crate::error::Result;
use crate::instruments::process::MeasuredProcess;

/// The paths of the programs.
#[derive(Debug)]
pub(super) struct LoadPrograms {
    release: PathBuf,
    pub(super) route: PathBuf,
}

impl LoadPrograms {
    /// Builds the platform with its default features, and the other programs.
    pub(super) fn build() -> Result<Self> {
        let this = std::env::current_exe()?;
        let release = this
            .parent()
            .ok_or("this program is not in a folder")?
            .to_owned();
        let target = release
            .parent()
            .ok_or("this program is not in a target folder")?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args([
                "build",
                "--release",
                "--package",
                "podwork-platform",
                "--package",
            ])
            .args([env!("CARGO_PKG_NAME"), "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .arg("--target-dir")
            .arg(target)
            .status()?;
        if !built.success() {
            return Err(format!("cargo build failed ({built})").into());
        }
        Ok(Self {
            route: release.join("bench-route"),
            release,
        })
    }

    pub(super) fn platform(&self, rules: &str) -> Result<Server> {
        let mut command = Command::new(self.release.join("podwork-platform"));
        command.args(["--port", "0", "--rules", rules]);
        Server::start(command)
    }

    pub(super) fn worker(&self, platform: &Server) -> Result<MeasuredProcess> {
        let mut command = Command::new(self.release.join("bench-worker"));
        command
            .env(WORK, Workload::Noop.to_string())
            .env(CONCURRENCY, "100")
            .env("RUNPOD_LOG_LEVEL", "ERROR");
        MeasuredProcess::start(command, &platform.worker_env)
    }
}
