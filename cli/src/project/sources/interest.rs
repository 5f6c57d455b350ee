//! The paths that count as sources.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound::{Included, Unbounded};
use std::path::{Path, PathBuf};

use ignore::{DirEntry, WalkBuilder};

use super::file_state::FileStates;
use crate::project::Project;

/// The maximum number of files and folders that are looked at if the list of sources is incomplete.
const MOST_ENTRIES: usize = 50_000;
/// Folders without sources: dependencies of Node.js, and files that a worker saves because it has no bucket.
const LEFT_OUT: [&str; 2] = ["node_modules", "simulated_uploaded"];

/// The identity of a file: its device and its inode.
type FileId = (u64, u64);

/// The paths that count as sources.
#[derive(Debug)]
pub(super) struct Interest {
    /// Files, existing or not, and folders that count with all files below them.
    listed: BTreeSet<PathBuf>,
    /// `true` if the list is complete. Otherwise all files of the packages are looked at.
    is_complete: bool,
    packages: Vec<PathBuf>,
    /// Cargo's own folders.
    outputs: Vec<PathBuf>,
    /// The files that the standard streams of this process are redirected to.
    redirected: Vec<FileId>,
}

impl Interest {
    /// Creates the interest before the first build.
    pub(super) fn new(project: &Project, listed: BTreeSet<PathBuf>) -> Self {
        let packages = project.local.clone();
        // A package may be in a folder of cargo, such as `/tmp`.
        let has_package = |folder: &&PathBuf| packages.iter().any(|it| it.starts_with(folder));
        let outputs = project.outputs.iter();
        let outputs = outputs.filter(|folder| !has_package(folder));
        Self {
            listed,
            is_complete: false,
            outputs: outputs.cloned().collect(),
            packages,
            redirected: redirected(),
        }
    }

    /// Replaces the list by that of a build, if there is one, and `fixed`.
    pub(super) fn update(&mut self, fixed: &BTreeSet<PathBuf>, build: Option<Vec<PathBuf>>) {
        self.is_complete = build.is_some();
        let Some(mut build) = build else {
            return;
        };
        build.retain(|path| !self.is_output(path));
        // A change of the target of a link causes an event only there.
        let targets: Vec<PathBuf> = build.iter().flat_map(|path| path.canonicalize()).collect();
        build.extend(targets);
        let folders: HashSet<&Path> = build.iter().filter_map(|path| path.parent()).collect();
        let manifests: Vec<PathBuf> = folders.into_iter().filter_map(manifest_of).collect();
        self.listed = fixed
            .iter()
            .cloned()
            .chain(build)
            .chain(manifests)
            .collect();
    }

    /// Returns whether an event at this path may be a change of a source.
    pub(super) fn concerns(&self, path: &Path) -> bool {
        if self.is_output(path) {
            return false;
        }
        // A path is sorted directly before those below it.
        let below = self
            .listed
            .range::<Path, _>((Included(path), Unbounded))
            .next();
        !self.is_complete
            || below.is_some_and(|listed| listed.starts_with(path))
            || path.ancestors().any(|folder| self.listed.contains(folder))
    }

    /// Returns the current states of the sources.
    pub(super) fn states(&self) -> FileStates {
        let mut states = FileStates::default();
        for path in &self.listed {
            states.add(path);
            for entry in self.entries_below(path) {
                if entry.file_type().is_some_and(|kind| kind.is_file()) {
                    states.add(entry.path());
                }
            }
        }
        for entry in self.possible_sources() {
            if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "rs")
            {
                states.add(entry.path());
            } else {
                states.add_existing(entry.into_path());
            }
        }
        states
    }

    /// Returns the folders whose direct content must be watched.
    pub(super) fn folders(&self) -> BTreeSet<PathBuf> {
        let mut folders = BTreeSet::new();
        for path in &self.listed {
            // A missing folder appears in the one above it.
            let existing = path.ancestors().skip(1).find(|folder| folder.is_dir());
            folders.extend(existing.map(ToOwned::to_owned));
            let entries = self.entries_below(path).into_iter();
            folders.extend(entries.filter(is_folder).map(DirEntry::into_path));
        }
        let possible = self.possible_sources().into_iter();
        folders.extend(possible.filter(is_folder).map(DirEntry::into_path));
        folders
    }

    fn is_output(&self, path: &Path) -> bool {
        self.outputs.iter().any(|folder| path.starts_with(folder))
    }

    /// Returns a listed folder and everything below it; nothing for a file. Cargo looks at all of it, too. The folder of
    /// a package also contains what the worker writes, so git decides what counts in it.
    fn entries_below(&self, folder: &Path) -> Vec<DirEntry> {
        if !folder.is_dir() {
            return Vec::new();
        }
        let mut walk = WalkBuilder::new(folder);
        let has_package = self
            .packages
            .iter()
            .any(|package| package.starts_with(folder));
        walk.standard_filters(has_package).require_git(false);
        self.entries(walk)
    }

    /// Returns the files and folders that may be sources although they are not listed.
    fn possible_sources(&self) -> Vec<DirEntry> {
        let Some((first, others)) = self.packages.split_first().filter(|_| !self.is_complete)
        else {
            return Vec::new();
        };
        let mut walk = WalkBuilder::new(first);
        for folder in others {
            walk.add(folder);
        }
        walk.require_git(false);
        self.entries(walk)
    }

    fn entries(&self, mut walk: WalkBuilder) -> Vec<DirEntry> {
        let (outputs, redirected) = (self.outputs.clone(), self.redirected.clone());
        walk.filter_entry(move |entry| {
            let name = entry.file_name().to_str().unwrap_or_default();
            // Editors end the names of backups with `~`.
            !name.ends_with('~')
                && !LEFT_OUT.contains(&name)
                && !outputs
                    .iter()
                    .any(|folder| entry.path().starts_with(folder))
                && !file_id(entry).is_some_and(|id| redirected.contains(&id))
        });
        // An entry that cannot be read is not a source that can be built.
        walk.build().flatten().take(MOST_ENTRIES).collect()
    }
}

/// Returns the files that standard output and standard error write to.
#[cfg(unix)]
fn redirected() -> Vec<FileId> {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;

    let streams = [
        std::io::stdout().as_fd().try_clone_to_owned(),
        std::io::stderr().as_fd().try_clone_to_owned(),
    ];
    let files = streams.into_iter().flatten().map(std::fs::File::from);
    let files = files
        .flat_map(|file| file.metadata())
        .filter(std::fs::Metadata::is_file);
    files.map(|file| (file.dev(), file.ino())).collect()
}

#[cfg(unix)]
fn file_id(entry: &DirEntry) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;

    entry.metadata().ok().map(|file| (file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn redirected() -> Vec<FileId> {
    Vec::new()
}

#[cfg(not(unix))]
fn file_id(_: &DirEntry) -> Option<FileId> {
    None
}

fn is_folder(entry: &DirEntry) -> bool {
    entry.file_type().is_some_and(|kind| kind.is_dir())
}

/// Returns the manifest of the package that a folder belongs to.
fn manifest_of(folder: &Path) -> Option<PathBuf> {
    let mut manifests = folder.ancestors().map(|folder| folder.join("Cargo.toml"));
    manifests.find(|manifest| manifest.is_file())
}
