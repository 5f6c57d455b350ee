//! The worker's crate, read from cargo's metadata, and its builds.

mod cargo_error;
pub(crate) mod env_file;
mod metadata;
pub(crate) mod sources;
pub(crate) mod template;

pub(crate) use cargo_error::CargoError;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use cargo_metadata::{Metadata, MetadataCommand, Node, Package, PackageId};

use metadata::metadata;

/// The worker to build, and its features.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct WorkerSelection {
    /// Package to build, if the workspace has several
    #[arg(long, short)]
    pub(crate) package: Option<String>,

    /// Binary to build, if the package has several
    #[arg(long)]
    pub(crate) bin: Option<String>,

    /// Features to enable, separated by commas
    #[arg(long, value_name = "FEATURES")]
    pub(crate) features: Option<String>,
}

/// The error if cargo cannot be started.
pub(crate) const NO_CARGO: &str = "cannot start cargo: install Rust from https://rustup.rs";

/// A worker's crate.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) bin: String,
    /// The package's folder.
    pub(crate) folder: PathBuf,
    pub(crate) workspace: PathBuf,
    /// The folders that cargo writes to.
    pub(crate) outputs: Vec<PathBuf>,
    /// The folders of all local packages that it is built from, including its own.
    pub(crate) local: Vec<PathBuf>,
}

impl Project {
    /// Finds the selected worker in the current folder or in one of its parents, as cargo does.
    pub(crate) fn find(wanted: &WorkerSelection) -> Result<Self> {
        let metadata = metadata(&MetadataCommand::new())?;
        let package = choose(&metadata, wanted.package.as_deref())?;
        Ok(Self {
            name: package.name.to_string(),
            version: package.version.to_string(),
            bin: choose_bin(package, wanted.bin.as_deref())?,
            folder: folder(package),
            local: local_folders(&metadata, &package.id),
            workspace: metadata.workspace_root.into_std_path_buf(),
            outputs: [Some(metadata.target_directory), metadata.build_directory]
                .into_iter()
                .flatten()
                .map(Into::into)
                .collect(),
        })
    }

    /// Returns the text of `test_input.json`, if there is one.
    pub(crate) fn test_input(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.join("test_input.json")).ok()
    }

    /// Returns the command that builds the binary and reports on standard output, with one JSON object per line.
    pub(crate) fn build(&self, wanted: &WorkerSelection, release: bool) -> Command {
        let mut command = cargo();
        command
            .current_dir(&self.folder)
            .args(["build", "--message-format", "json-render-diagnostics"])
            .args(["--package", &self.name, "--bin", &self.bin]);
        if let Some(features) = &wanted.features {
            command.args(["--features", features]);
        }
        if release {
            command.arg("--release");
        }
        command
    }
}

/// Returns the workspace member of this name, or the only candidate if none is named.
fn choose<'a>(metadata: &'a Metadata, wanted: Option<&str>) -> Result<&'a Package> {
    let members = metadata.workspace_packages();
    let root = metadata
        .resolve
        .as_ref()
        .and_then(|resolve| resolve.root.as_ref());
    let mut found = members.iter().filter(|package| match (wanted, root) {
        (Some(wanted), _) => *package.name == wanted,
        (None, Some(root)) => package.id == *root,
        (None, None) => true,
    });
    if let (Some(package), None) = (found.next(), found.next()) {
        return Ok(package);
    }
    let names: Vec<&str> = members
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    bail!(
        "cannot choose a package; pass --package with one of: {}",
        names.join(", ")
    )
}

/// Returns the folders of the local packages that a package is built from, including its own.
fn local_folders(metadata: &Metadata, id: &PackageId) -> Vec<PathBuf> {
    let nodes: HashMap<&PackageId, &Node> = metadata
        .resolve
        .iter()
        .flat_map(|resolve| &resolve.nodes)
        .map(|node| (&node.id, node))
        .collect();
    let local = |package: &&Package| package.source.is_none();
    let local: HashMap<&PackageId, &Package> = metadata
        .packages
        .iter()
        .filter(local)
        .map(|package| (&package.id, package))
        .collect();
    let mut found = vec![id];
    let mut at = 0;
    while let Some(next) = found.get(at) {
        at += 1;
        let below = nodes.get(next).into_iter();
        for dependency in below.flat_map(|node| &node.dependencies) {
            if local.contains_key(dependency) && !found.contains(&dependency) {
                found.push(dependency);
            }
        }
    }
    let packages = found.into_iter().filter_map(|id| local.get(id));
    packages.map(|package| folder(package)).collect()
}

fn folder(package: &Package) -> PathBuf {
    let manifest = package.manifest_path.as_std_path();
    manifest.parent().unwrap_or(manifest).to_owned()
}

fn choose_bin(package: &Package, wanted: Option<&str>) -> Result<String> {
    let bins: Vec<&str> = package
        .targets
        .iter()
        .filter(|target| target.is_bin())
        .map(|target| target.name.as_str())
        .collect();
    let name = &package.name;
    match (wanted.or(package.default_run.as_deref()), bins.as_slice()) {
        (_, []) => bail!("{name} has no binary: a worker needs `fn main` in src/main.rs"),
        (None, [bin]) => Ok((*bin).to_owned()),
        (Some(wanted), bins) if bins.contains(&wanted) => Ok(wanted.to_owned()),
        (_, bins) => bail!(
            "cannot choose a binary of {name}; pass --bin with one of: {}",
            bins.join(", ")
        ),
    }
}

/// Returns the workspace root of a package in another folder.
pub(crate) fn workspace_of(folder: &Path) -> Result<PathBuf> {
    let mut command = MetadataCommand::new();
    command.manifest_path(folder.join("Cargo.toml")).no_deps();
    Ok(metadata(&command)?.workspace_root.into_std_path_buf())
}

/// Returns whether cargo would treat a new crate in this folder as a member of a workspace.
pub(crate) fn in_workspace(folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else {
        return false;
    };
    folder.ancestors().any(|folder| {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml"));
        manifest.is_ok_and(|text| {
            text.parse::<toml_edit::DocumentMut>()
                .is_ok_and(|manifest| manifest.contains_key("workspace"))
        })
    })
}

/// Returns the user's cargo: the one in the variable `CARGO`, which cargo sets for its child processes, or else the one
/// in `PATH`.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
