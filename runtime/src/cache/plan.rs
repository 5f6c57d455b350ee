//! What the next generation is: what is here, what others brought, and which of two counts.

use std::collections::{BTreeMap, HashSet};

use super::manifest::{Entry, Manifest, Root};
use super::pack::Source;
use super::report::Synced;
use super::tree::{Directory, Found, Tree};

/// A file, by its directory and path.
type Key<'a> = (&'a str, &'a str);
/// What was written, and how long its object is; or nothing, where the file did not hold still.
pub(super) type Written<'a> = BTreeMap<Key<'a>, Option<(Entry, u64)>>;

/// One directory, from all sides.
pub(super) struct View<'a, 'b> {
    pub(super) directory: &'a Directory,
    /// What is in it.
    pub(super) tree: &'a Tree,
    /// The latest generation, …
    pub(super) current: &'b Manifest,
    /// … the directory's part of it, …
    pub(super) root: &'b Root,
    /// … and what it was when the directory was last the same.
    pub(super) base: &'b Root,
    pub(super) is_there: &'b HashSet<&'b str>,
}

impl View<'_, '_> {
    /// What the latest generation has of a file.
    fn recorded(&self, path: &str) -> Option<&Entry> {
        let entry = self.root.files.get(path)?;
        self.is_there
            .contains(entry.object.as_str())
            .then_some(entry)
    }

    /// What the latest generation has of a file, if it is to stay so: where but one of the two changed since the directory
    /// was the same, that one counts, else the later one.
    fn prevailing(&self, path: &str, found: Found) -> Option<&Entry> {
        let theirs = self.recorded(path)?;
        let base = self.base.files.get(path).map(Entry::stamp);
        let prevails = if theirs.stamp() == found.stamp || base == Some(theirs.stamp()) {
            false
        } else {
            base == Some(found.stamp) || theirs.mtime > found.stamp.mtime
        };
        prevails.then_some(theirs)
    }

    /// Whether a file of another cannot be where this one's are: one has a folder where the other has a file.
    fn is_in_the_way(&self, path: &str) -> bool {
        let files = &self.tree.files;
        let mut folders = path.match_indices('/').map(|(end, _)| &path[..end]);
        let below = format!("{path}/");
        let next = files.range(below.clone()..).next();
        folders.any(|folder| files.contains_key(folder))
            || next.is_some_and(|(file, _)| file.starts_with(&below))
    }

    /// Whether what is not there, and was the `same` when the directory was, was deleted.
    fn is_deleted(&self, same: bool) -> bool {
        same && !self.tree.is_partial
    }
}

/// The next generation, as far as it is known.
#[derive(Default)]
pub(super) struct Plan<'a> {
    pub(super) next: Manifest,
    /// What of it the directories hold.
    pub(super) held: BTreeMap<String, Root>,
    /// Files that are yet to be written.
    pub(super) missing: Vec<Source<'a>>,
    pub(super) synced: Synced,
}

impl<'a> Plan<'a> {
    /// A file that is there.
    pub(super) fn add(
        &mut self,
        view: &View<'a, '_>,
        path: &'a str,
        found: Found,
        written: Option<&Option<(Entry, u64)>>,
        worn: &HashSet<&str>,
    ) {
        let name = view.directory.name.as_str();
        let recorded = view.recorded(path);
        if let Some(theirs) = view.prevailing(path, found) {
            self.keep(view.current, name, path, theirs.clone());
            let seen = view.base.files.get(path);
            if let Some(seen) = seen.filter(|seen| seen.stamp() == found.stamp) {
                self.hold(name, path, seen.clone());
            }
            return;
        }
        match written {
            Some(Some((entry, len))) => {
                self.synced.files += 1;
                self.synced.bytes += entry.size;
                self.hold(name, path, entry.clone());
                self.next.insert(name, path.to_owned(), entry.clone(), *len);
            }
            Some(None) => {
                self.synced.unsettled += 1;
                if let Some(entry) = recorded {
                    self.hold(name, path, entry.clone());
                    self.keep(view.current, name, path, entry.clone());
                }
            }
            None => {
                let is_same = |entry: &&Entry| entry.stamp() == found.stamp;
                let is_good = |entry: &&Entry| !worn.contains(entry.object.as_str());
                let Some(entry) = recorded.filter(is_same).filter(is_good) else {
                    self.missing.push(Source {
                        directory: view.directory,
                        path,
                        found,
                    });
                    return;
                };
                self.synced.unchanged += 1;
                let mode = found.mode;
                let entry = Entry {
                    mode,
                    ..entry.clone()
                };
                self.hold(name, path, entry.clone());
                self.keep(view.current, name, path, entry);
            }
        }
    }

    /// Files that are not here.
    pub(super) fn add_those_of_others(&mut self, view: &View<'_, '_>) {
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
                && !view.is_in_the_way(path)
            {
                self.keep(view.current, name, path, entry.clone());
            }
        }
    }

    pub(super) fn add_links(&mut self, view: &View<'_, '_>) {
        let (name, tree) = (view.directory.name.as_str(), view.tree);
        let mut links = tree.links.clone();
        for (path, target) in &view.root.links {
            let is_deleted = view.is_deleted(view.base.links.get(path) == Some(target));
            if !tree.files.contains_key(path) && !is_deleted {
                links.entry(path.clone()).or_insert_with(|| target.clone());
            }
        }
        if !tree.links.is_empty() {
            let held = self.held.entry(name.to_owned()).or_default();
            held.links.clone_from(&tree.links);
        }
        self.link(name, links);
    }

    pub(super) fn link(&mut self, directory: &str, links: BTreeMap<String, String>) {
        if !links.is_empty() {
            let root = self.next.roots.entry(directory.to_owned()).or_default();
            root.links = links;
        }
    }

    /// A file stays where it is.
    pub(super) fn keep(&mut self, current: &Manifest, directory: &str, path: &str, entry: Entry) {
        let len = current.objects[&entry.object];
        self.next.insert(directory, path.to_owned(), entry, len);
    }

    fn hold(&mut self, directory: &str, path: &str, entry: Entry) {
        let held = self.held.entry(directory.to_owned()).or_default();
        held.files.insert(path.to_owned(), entry);
    }
}
