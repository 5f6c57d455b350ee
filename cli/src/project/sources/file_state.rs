//! The states of files, to detect changes.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The largest file whose content is compared, in bytes.
const MOST_CONTENT: u64 = 1 << 20;

/// The states of files; `None` for a missing file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FileStates(BTreeMap<PathBuf, Option<FileState>>);

/// The state of a file.
#[derive(Debug, Clone)]
pub(super) struct FileState {
    modified: Option<SystemTime>,
    len: u64,
    /// The hash of the content, if it was computed.
    content: Option<u64>,
}

/// Compares without the content.
impl PartialEq for FileState {
    fn eq(&self, other: &Self) -> bool {
        (self.modified, self.len) == (other.modified, other.len)
    }
}

impl Eq for FileState {}

impl FileState {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok().filter(|_| metadata.is_file()),
            len: if metadata.is_file() {
                metadata.len()
            } else {
                0
            },
            content: None,
        })
    }

    /// The state of a file of which only its existence matters.
    fn existing() -> Self {
        Self {
            modified: None,
            len: 0,
            content: None,
        }
    }
}

impl FileStates {
    /// Adds the current state of a file.
    pub(super) fn add(&mut self, path: &Path) {
        self.0.insert(path.to_owned(), FileState::of(path));
    }

    /// Adds a file of which only its existence matters, unless its state was added.
    pub(super) fn add_existing(&mut self, path: PathBuf) {
        self.0
            .entry(path)
            .or_insert_with(|| Some(FileState::existing()));
    }

    /// Adds the hashes of the contents.
    pub(super) fn with_contents(mut self) -> Self {
        for (path, state) in &mut self.0 {
            if let Some(state) = state {
                state.content = content(path, state);
            }
        }
        self
    }

    /// Returns whether `now` has the same files with the same contents. Compares the times of files without a hash.
    /// `Cargo.lock` does not count, because a build may write it.
    pub(super) fn has_same_contents(&self, now: &Self) -> bool {
        if now.0.keys().any(|path| !self.0.contains_key(path)) {
            return false;
        }
        let mut files = self
            .0
            .iter()
            .filter(|(path, _)| !path.ends_with("Cargo.lock"));
        files.all(
            |(path, before)| match (before, now.0.get(path).and_then(Option::as_ref)) {
                (Some(before), Some(now)) => {
                    before == now
                        || (before.content.is_some() && before.content == content(path, now))
                }
                (before, now) => before.is_none() && now.is_none(),
            },
        )
    }
}

fn content(path: &Path, state: &FileState) -> Option<u64> {
    if state.modified.is_none() || state.len > MOST_CONTENT {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}
