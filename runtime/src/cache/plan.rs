//! Decides the content of the next generation: local files, files of other workers, and which of two versions to keep.

use std::collections::{BTreeMap, HashSet};

use super::manifest::{FileEntry, Manifest, Root, Roots};
use super::pack::SourceFile;
use super::report::Synced;
use super::tree::{Directory, FileStat, Tree};

/// The name of a file's directory, and the file's path in it.
type FileKey<'a> = (&'a str, &'a str);
/// Files written by this sync, each with the length of its object; `None` for a file that changed while it was read.
pub(super) type WrittenFiles<'a> = BTreeMap<FileKey<'a>, Option<(FileEntry, u64)>>;

/// One cached directory: its local content, and its content in the generations to compare with.
pub(super) struct DirectoryView<'a, 'b> {
    pub(super) directory: &'a Directory,
    /// The local content.
    pub(super) tree: &'a Tree,
    /// The latest generation.
    pub(super) current: &'b Manifest,
    /// The directory's content in the latest generation.
    pub(super) root: &'b Root,
    /// The directory's content in the generation that the local directory last matched.
    pub(super) base: &'b Root,
    /// Objects that exist and are intact.
    pub(super) usable: &'b HashSet<&'b str>,
}

impl DirectoryView<'_, '_> {
    /// Returns a file of the latest generation, if its object is usable.
    fn recorded(&self, path: &str) -> Option<&FileEntry> {
        let entry = self.root.files.get(path)?;
        self.usable.contains(entry.object.as_str()).then_some(entry)
    }

    /// Returns a file of the latest generation if it wins over the local one. If only one of the two has changed since
    /// the base, that one wins. If both have changed, the newer one wins.
    fn prevailing(&self, path: &str, stat: FileStat) -> Option<&FileEntry> {
        let theirs = self.recorded(path)?;
        let base = self.base.files.get(path).map(FileEntry::stamp);
        let prevails = if theirs.stamp() == stat.stamp || base == Some(theirs.stamp()) {
            false
        } else {
            base == Some(stat.stamp) || theirs.mtime > stat.stamp.mtime
        };
        prevails.then_some(theirs)
    }

    /// Returns whether a path conflicts with the local files: one side has a folder where the other has a file.
    fn conflicts(&self, path: &str) -> bool {
        let files = &self.tree.files;
        let mut folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        let below = format!("{path}/");
        let next = files.range(below.clone()..).next();
        folders.any(|folder| files.contains_key(folder))
            || next.is_some_and(|(file, _)| file.starts_with(&below))
    }

    /// Returns whether a missing file was deleted locally. `in_base`: the base has the same version of the file as the
    /// latest generation.
    fn is_deleted(&self, in_base: bool) -> bool {
        in_base && !self.tree.is_partial
    }
}

/// The content of the next generation, as far as it has been decided.
#[derive(Default)]
pub(super) struct SyncPlan<'a> {
    pub(super) next: Manifest,
    /// The part of `next` that matches the local directories. It becomes the base of the next sync.
    pub(super) base: Roots,
    /// Files that must be written to the volume first.
    pub(super) missing: Vec<SourceFile<'a>>,
    pub(super) synced: Synced,
}

impl<'a> SyncPlan<'a> {
    /// Adds a local file.
    pub(super) fn add_local(
        &mut self,
        view: &DirectoryView<'a, '_>,
        path: &'a str,
        stat: FileStat,
        written: Option<&Option<(FileEntry, u64)>>,
        repack: &HashSet<&str>,
    ) {
        let name = view.directory.name.as_str();
        let recorded = view.recorded(path);
        if let Some(theirs) = view.prevailing(path, stat) {
            self.keep(view.current, name, path, theirs.clone());
            let seen = view.base.files.get(path);
            if let Some(seen) = seen.filter(|seen| seen.stamp() == stat.stamp) {
                self.set_base(name, path, seen.clone());
            }
            return;
        }
        match written {
            Some(Some((entry, len))) => {
                self.synced.files += 1;
                self.synced.bytes += entry.size;
                self.set_base(name, path, entry.clone());
                self.next.insert(name, path.to_owned(), entry.clone(), *len);
            }
            Some(None) => {
                self.synced.unsettled += 1;
                if let Some(entry) = recorded {
                    self.set_base(name, path, entry.clone());
                    self.keep(view.current, name, path, entry.clone());
                }
            }
            None => {
                let is_same = |entry: &&FileEntry| entry.stamp() == stat.stamp;
                let is_good = |entry: &&FileEntry| !repack.contains(entry.object.as_str());
                let Some(entry) = recorded.filter(is_same).filter(is_good) else {
                    self.missing.push(SourceFile {
                        directory: view.directory,
                        path,
                        seen: stat,
                    });
                    return;
                };
                self.synced.unchanged += 1;
                let mode = stat.mode;
                let entry = FileEntry {
                    mode,
                    ..entry.clone()
                };
                self.set_base(name, path, entry.clone());
                self.keep(view.current, name, path, entry);
            }
        }
    }

    /// Adds files of the latest generation that are missing locally, except those that were deleted locally.
    pub(super) fn add_remote(&mut self, view: &DirectoryView<'_, '_>) {
        let (name, tree) = (view.directory.name.as_str(), view.tree);
        for (path, theirs) in &view.root.files {
            if tree.files.contains_key(path) {
                continue;
            }
            let seen = view.base.files.get(path);
            if view.is_deleted(seen.is_some_and(|seen| seen.stamp() == theirs.stamp())) {
                self.synced.removed += 1;
            } else if let Some(entry) = view.recorded(path)
                && !tree.links.contains_key(path)
                && !view.conflicts(path)
            {
                self.keep(view.current, name, path, entry.clone());
            }
        }
    }

    /// Adds the local links, and those of the latest generation that were not deleted locally.
    pub(super) fn add_links(&mut self, view: &DirectoryView<'_, '_>) {
        let (name, tree) = (view.directory.name.as_str(), view.tree);
        let mut links = tree.links.clone();
        for (path, target) in &view.root.links {
            let is_deleted = view.is_deleted(view.base.links.get(path) == Some(target));
            if !tree.files.contains_key(path) && !is_deleted {
                links.entry(path.clone()).or_insert_with(|| target.clone());
            }
        }
        if !tree.links.is_empty() {
            let base = self.base.entry(name.to_owned()).or_default();
            base.links.clone_from(&tree.links);
        }
        self.set_links(name, links);
    }

    /// Sets the links of a directory in the next generation.
    pub(super) fn set_links(&mut self, directory: &str, links: BTreeMap<String, String>) {
        if !links.is_empty() {
            let root = self.next.roots.entry(directory.to_owned()).or_default();
            root.links = links;
        }
    }

    /// Keeps a file of the latest generation, in the same object.
    pub(super) fn keep(
        &mut self,
        current: &Manifest,
        directory: &str,
        path: &str,
        entry: FileEntry,
    ) {
        let len = current.objects[&entry.object];
        self.next.insert(directory, path.to_owned(), entry, len);
    }

    fn set_base(&mut self, directory: &str, path: &str, entry: FileEntry) {
        let base = self.base.entry(directory.to_owned()).or_default();
        base.files.insert(path.to_owned(), entry);
    }
}
