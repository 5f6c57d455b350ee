//! The programs of the contenders.

use std::env::current_exe;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::contenders::work::{CONCURRENCY, WORK, Workload};
use crate::error::Result;

/// The official worker's version.
pub(crate) const OFFICIAL: &str = "runpod==1.12.0";

/// A program that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Contender {
    /// The podwork worker.
    Ours,
    /// The podwork worker of another build.
    Before,
    /// Bare HTTP with hyper.
    Floor,
    /// Bare HTTP over sockets, without a library.
    Raw,
    /// The official Python worker.
    Official,
}

impl Contender {
    /// All contenders, in the order of the tables.
    pub(crate) const ALL: [Self; 5] = [
        Self::Ours,
        Self::Before,
        Self::Floor,
        Self::Raw,
        Self::Official,
    ];

    /// Returns all contenders, in the order of this round: a different one is first in each round.
    pub(crate) fn turns(round: usize) -> [Self; Self::ALL.len()] {
        let mut turns = Self::ALL;
        turns.rotate_left(round % Self::ALL.len());
        turns
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "podwork",
            Self::Before => "before",
            Self::Floor => "floor",
            Self::Raw => "raw",
            Self::Official => "official",
        })
    }
}

/// The paths of the programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `bench-platform`.
    pub platform: PathBuf,
    /// `bench-worker`.
    pub worker: PathBuf,
    /// `bench-worker` of another build, if it is measured.
    pub before: Option<PathBuf>,
    /// `bench-floor`.
    pub floor: PathBuf,
    /// `bench-raw`.
    pub raw: PathBuf,
    /// `bench-hello`.
    pub hello: PathBuf,
    /// `cache-contender`.
    pub cache: PathBuf,
    /// The Python interpreter with the official worker, if it is measured.
    pub python: Option<PathBuf>,
}

impl Programs {
    /// Builds the programs into the target folder of this program, in the release profile.
    ///
    /// # Errors
    /// Returns an error if the build or the installation of the official worker fails.
    pub fn build(official: bool) -> Result<Self> {
        let this = current_exe()?;
        let target = this.parent().and_then(Path::parent);
        let target = target.ok_or("this program is not in a target folder")?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // Without the cache, like a worker in an image.
        for selected in [
            &["--bin", "bench-*", "--no-default-features"][..],
            &["--bin", "cache-contender"],
        ] {
            let mut build = Command::new(&cargo);
            build
                .args(["build", "--release", "--package", env!("CARGO_PKG_NAME")])
                .args(selected)
                .arg("--manifest-path")
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
                .arg("--target-dir")
                .arg(target);
            // The variables that `cargo run` sets for this package would make build scripts run again.
            for (name, _) in std::env::vars() {
                if ["CARGO_PKG_", "CARGO_MANIFEST_"]
                    .iter()
                    .any(|of| name.starts_with(of))
                {
                    build.env_remove(name);
                }
            }
            run(build)?;
        }
        let program = |name| target.join("release").join(name);
        Ok(Self {
            platform: program("bench-platform"),
            worker: program("bench-worker"),
            before: None,
            floor: program("bench-floor"),
            raw: program("bench-raw"),
            hello: program("bench-hello"),
            cache: program("cache-contender"),
            python: official.then(|| install(target)).transpose()?,
        })
    }

    /// Adds the `bench-worker` of another build, as the contender `before`.
    ///
    /// Both workers are copied into `folder` and run from there: Linux maps a copied program in larger pieces than one
    /// that a linker wrote, which changes its resident memory by a tenth.
    ///
    /// # Errors
    /// Returns an error if a program cannot be copied.
    pub fn against(mut self, before: &Path, folder: &Path) -> Result<Self> {
        let copy = |from: &Path, name| -> Result<PathBuf> {
            let to = folder.join(name);
            std::fs::copy(from, &to).map_err(|error| format!("{}: {error}", from.display()))?;
            Ok(to)
        };
        self.before = Some(copy(before, "before")?);
        self.worker = copy(&self.worker, "podwork")?;
        Ok(self)
    }

    /// Returns the command that starts a contender. Returns `None` if it is not measured.
    pub(crate) fn command(
        &self,
        contender: Contender,
        work: Workload,
        concurrency: usize,
    ) -> Option<Command> {
        let mut command = match contender {
            Contender::Ours => Command::new(&self.worker),
            Contender::Before => Command::new(self.before.as_ref()?),
            Contender::Floor => Command::new(&self.floor),
            Contender::Raw => Command::new(&self.raw),
            Contender::Official => {
                let mut command = Command::new(self.python.as_ref()?);
                command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/official.py"));
                command
            }
        };
        command
            // As in an image built from the template.
            .env("MALLOC_MMAP_THRESHOLD_", "1048576")
            .env(WORK, work.to_string())
            .env(CONCURRENCY, concurrency.to_string());
        Some(command)
    }

    /// Returns the command that calls a contender's cache. Returns `None` if it is not measured or has no cache.
    pub(crate) fn cache_command(&self, contender: Contender) -> Option<Command> {
        match contender {
            Contender::Ours => Some(Command::new(&self.cache)),
            Contender::Before | Contender::Floor | Contender::Raw => None,
            Contender::Official => {
                let mut command = Command::new(self.python.as_ref()?);
                command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/official_cache.py"));
                Some(command)
            }
        }
    }
}

/// Installs the official worker if it is missing, and returns its Python interpreter.
fn install(target: &Path) -> Result<PathBuf> {
    let venv = target.join("bench-venv");
    let python = venv.join("bin/python");
    let installed = venv.join(OFFICIAL);
    if !installed.exists() {
        let mut create = Command::new("python3");
        create.args(["-m", "venv"]).arg(&venv);
        run(create).map_err(|error| {
            format!("{error}\nThe official worker needs Python 3 with venv; leave it out with --without-official.")
        })?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", OFFICIAL])
            .arg("--disable-pip-version-check");
        run(pip)?;
        std::fs::write(installed, "")?;
    }
    Ok(python)
}

fn run(mut command: Command) -> Result<()> {
    let status = command
        .status()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed ({status})").into())
}
