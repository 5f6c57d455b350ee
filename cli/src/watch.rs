//! Sources under watch.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{Receiver, channel};

/// Editors write a file in several steps, and tools many files at once: a build begins once they rest for so long.
const REST: Duration = Duration::from_millis(100);

/// Tells when sources change.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: RecommendedWatcher,
    changes: Receiver<()>,
    folders: Vec<PathBuf>,
    target_dir: PathBuf,
    watched: HashSet<PathBuf>,
}

impl Watch {
    /// Watches these folders, but for what is built there.
    pub(crate) fn start(folders: Vec<PathBuf>, target_dir: PathBuf) -> Result<Self> {
        // One waiting change says as much as many.
        let (sender, changes) = channel(1);
        let (roots, target) = (folders.clone(), target_dir.clone());
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let matters = match event {
                Ok(event) => {
                    !matches!(event.kind, EventKind::Access(_))
                        && event
                            .paths
                            .iter()
                            .any(|path| is_source(path, &roots, &target))
                }
                // Events were lost: there may be a change among them.
                Err(_) => true,
            };
            if matters {
                let _ = sender.try_send(());
            }
        });
        let mut watch = Self {
            watcher: watcher.context("sources cannot be watched")?,
            changes,
            folders,
            target_dir,
            watched: HashSet::new(),
        };
        watch.cover()?;
        Ok(watch)
    }

    /// Waits for a change, and until changes rest.
    pub(crate) async fn changed(&mut self) -> Result<()> {
        // The sender lives in the watcher, and so as long as this.
        let _ = self.changes.recv().await;
        while let Ok(Some(())) = tokio::time::timeout(REST, self.changes.recv()).await {}
        self.cover()
    }

    /// Watches what is not watched yet: a folder itself for its files and new folders, and each source folder in it
    /// with all below. A `target` folder must not be, for all that goes on in there.
    fn cover(&mut self) -> Result<()> {
        let mut wanted = Vec::new();
        for folder in &self.folders {
            wanted.push((folder.clone(), RecursiveMode::NonRecursive));
            let entries = std::fs::read_dir(folder)
                .with_context(|| format!("{} cannot be read", folder.display()))?;
            let inner = entries.flatten().map(|entry| entry.path());
            wanted.extend(
                inner
                    .filter(|path| {
                        path.is_dir() && is_source(path, &self.folders, &self.target_dir)
                    })
                    .map(|path| (path, RecursiveMode::Recursive)),
            );
        }
        // A folder that is gone is forgotten, so that it is watched again when it comes back.
        self.watched.retain(|path| path.is_dir());
        for (path, mode) in wanted {
            if self.watched.insert(path.clone()) {
                self.watcher
                    .watch(&path, mode)
                    .with_context(|| format!("{} cannot be watched", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Whether a path below one of the folders is a source, and nothing built or passing.
fn is_source(path: &Path, folders: &[PathBuf], target_dir: &Path) -> bool {
    if path.starts_with(target_dir) {
        return false;
    }
    let Some(inner) = folders
        .iter()
        .find_map(|folder| path.strip_prefix(folder).ok())
    else {
        return false;
    };
    inner.iter().filter_map(|part| part.to_str()).all(|part| {
        // What editors keep beside a file, and what is not written by hand.
        !part.starts_with('.') && !part.ends_with('~') && part != "target" && part != "node_modules"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_and_what_editors_leave_is_no_source() {
        let folders = [PathBuf::from("/w")];
        let is_source = |path: &str| is_source(Path::new(path), &folders, Path::new("/w/out"));
        assert!(is_source("/w/src/main.rs"));
        assert!(is_source("/w/Cargo.toml"));
        for other in [
            "/w/target/debug/a",
            "/w/out/a",
            "/w/.git/HEAD",
            "/w/src/.main.rs.swp",
            "/w/src/main.rs~",
            "/x/a",
        ] {
            assert!(!is_source(other), "{other}");
        }
    }
}
