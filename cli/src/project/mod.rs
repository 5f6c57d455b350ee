//! The worker's crate, as cargo knows it, and its builds.

pub(crate) mod sources;
pub(crate) mod template;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The worker to build, and its features.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct WorkerSelection {
    /// Package, where the folder is a workspace of several
    #[arg(long, short)]
    pub(crate) package: Option<String>,

    /// Binary, where the package has several
    #[arg(long)]
    pub(crate) bin: Option<String>,

    /// Features to build with, separated by commas
    #[arg(long, value_name = "FEATURES")]
    pub(crate) features: Option<String>,
}

/// A worker's crate.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) bin: String,
    /// The package's folder.
    pub(crate) folder: PathBuf,
    pub(crate) workspace: PathBuf,
    pub(crate) target_dir: PathBuf,
    /// Folders of the packages that are built from sources on this machine, its own among them.
    pub(crate) local: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
    resolve: Option<Resolve>,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    source: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<BuiltTarget>,
    default_run: Option<String>,
}

impl Package {
    fn folder(&self) -> PathBuf {
        self.manifest_path
            .parent()
            .unwrap_or(&self.manifest_path)
            .to_owned()
    }
}

#[derive(Debug, Deserialize)]
struct BuiltTarget {
    name: String,
    kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    root: Option<String>,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

impl Project {
    /// The worker that is meant, as cargo finds it from this folder up.
    pub(crate) fn find(target: &WorkerSelection) -> Result<Self> {
        let output = output(cargo().args(["metadata", "--format-version", "1"]))?;
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("cargo's metadata cannot be read")?;
        let package = metadata.choose(target.package.as_deref())?;
        let bin = choose_bin(package, target.bin.as_deref())?;
        Ok(Self {
            name: package.name.clone(),
            version: package.version.clone(),
            bin,
            folder: package.folder(),
            local: metadata.local_below(&package.id),
            workspace: metadata.workspace_root.clone(),
            target_dir: metadata.target_directory.clone(),
        })
    }

    /// The job that the worker's tests begin with, as text.
    pub(crate) fn test_input(&self) -> Option<String> {
        std::fs::read_to_string(self.folder.join("test_input.json")).ok()
    }

    /// The command that builds its binary and reports on standard output, one JSON object a line.
    pub(crate) fn build(&self, target: &WorkerSelection, release: bool) -> Command {
        let mut command = cargo();
        command
            .current_dir(&self.folder)
            .args(["build", "--message-format", "json-render-diagnostics"])
            .args(["--package", &self.name, "--bin", &self.bin]);
        if let Some(features) = &target.features {
            command.args(["--features", features]);
        }
        if release {
            command.arg("--release");
        }
        command
    }
}

impl Metadata {
    fn choose(&self, wanted: Option<&str>) -> Result<&Package> {
        let members = || {
            self.packages
                .iter()
                .filter(|package| self.workspace_members.contains(&package.id))
        };
        let root = self
            .resolve
            .as_ref()
            .and_then(|resolve| resolve.root.as_ref());
        let mut found = members().filter(|package| match (wanted, root) {
            (Some(wanted), _) => package.name == wanted,
            (None, Some(root)) => package.id == *root,
            (None, None) => true,
        });
        if let (Some(package), None) = (found.next(), found.next()) {
            return Ok(package);
        }
        let names: Vec<&str> = members().map(|package| package.name.as_str()).collect();
        bail!(
            "which package? Say --package with one of: {}",
            names.join(", ")
        )
    }

    /// Folders of the local packages that this one is built from.
    fn local_below(&self, id: &str) -> Vec<PathBuf> {
        let nodes = self.resolve.iter().flat_map(|resolve| &resolve.nodes);
        let nodes: Vec<&Node> = nodes.collect();
        let mut seen = vec![id.to_owned()];
        let mut at = 0;
        while let Some(next) = seen.get(at).cloned() {
            at += 1;
            let node = nodes.iter().find(|node| node.id == next);
            for below in node.into_iter().flat_map(|node| &node.dependencies) {
                let local = |package: &Package| package.id == *below && package.source.is_none();
                if !seen.contains(below) && self.packages.iter().any(local) {
                    seen.push(below.clone());
                }
            }
        }
        let local = self
            .packages
            .iter()
            .filter(|package| seen.contains(&package.id));
        local.map(Package::folder).collect()
    }
}

fn choose_bin(package: &Package, wanted: Option<&str>) -> Result<String> {
    let bins: Vec<&str> = package
        .targets
        .iter()
        .filter(|target| target.kind.iter().any(|kind| kind == "bin"))
        .map(|target| target.name.as_str())
        .collect();
    let name = &package.name;
    match (wanted.or(package.default_run.as_deref()), bins.as_slice()) {
        (_, []) => bail!("{name} has no binary: a worker's `fn main` stands in src/main.rs"),
        (None, [bin]) => Ok((*bin).to_owned()),
        (Some(wanted), bins) if bins.contains(&wanted) => Ok(wanted.to_owned()),
        (_, bins) => bail!(
            "which binary of {name}? Say --bin with one of: {}",
            bins.join(", ")
        ),
    }
}

/// What a build says on its standard output.
#[derive(Debug, Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub(crate) enum BuildMessage {
    CompilerArtifact {
        executable: Option<PathBuf>,
    },
    #[serde(other)]
    Other,
}

/// The workspace root of a package in another folder.
pub(crate) fn workspace_of(folder: &Path) -> Result<PathBuf> {
    let manifest = folder.join("Cargo.toml");
    let located = output(
        cargo()
            .args(["locate-project", "--workspace", "--message-format", "plain"])
            .arg("--manifest-path")
            .arg(manifest),
    )?;
    let path = PathBuf::from(String::from_utf8_lossy(&located.stdout).trim());
    Ok(path.parent().unwrap_or(&path).to_owned())
}

/// Whether cargo would look for a crate made here among a workspace's members.
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

/// The cargo that the user has: by a variable where this runs below cargo, else by the path.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn output(command: &mut Command) -> Result<Output> {
    let output = command
        .stderr(Stdio::piped())
        .output()
        .context("cargo cannot be started: install Rust from https://rustup.rs")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}", said.trim().trim_start_matches("error: "));
    }
    Ok(output)
}
