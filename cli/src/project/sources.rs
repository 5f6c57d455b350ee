//! The watcher of a worker's sources.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ignore::gitignore::Gitignore;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{Receiver, channel};

/// The time without changes after which a build starts. Editors write a file in several steps.
const REST: Duration = Duration::from_millis(100);

/// A watcher of a worker's sources.
#[derive(Debug)]
pub(crate) struct SourceWatcher {
    watcher: RecommendedWatcher,
    changes: Receiver<()>,
    sources: Arc<Sources>,
    watched: HashSet<PathBuf>,
}

/// The paths that are watched.
#[derive(Debug)]
struct Sources {
    /// The folders of packages, each with its `.gitignore`.
    packages: Vec<(PathBuf, Gitignore)>,
    /// The workspace root, with the lock file and a manifest.
    workspace: PathBuf,
    target_dir: PathBuf,
}

impl SourceWatcher {
    /// Watches the folders of these packages, and the workspace's own files.
    pub(crate) fn start(packages: &[PathBuf], workspace: &Path, target_dir: &Path) -> Result<Self> {
        let sources = Arc::new(Sources::new(packages, workspace, target_dir));
        // One pending change is enough to start a build.
        let (sender, changes) = channel(1);
        let looked_at = Arc::clone(&sources);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let matters = match event {
                Ok(event) => {
                    !matches!(event.kind, EventKind::Access(_))
                        && event.paths.iter().any(|path| looked_at.contain(path))
                }
                // Events were lost, and one of them may be a change.
                Err(_) => true,
            };
            if matters {
                // An error means that the channel already holds a change.
                let _ = sender.try_send(());
            }
        });
        let mut watch = Self {
            watcher: watcher.context("cannot watch the sources")?,
            changes,
            sources,
            watched: HashSet::new(),
        };
        watch.cover()?;
        Ok(watch)
    }

    /// Waits for a change, and then until no other change follows for [`REST`].
    pub(crate) async fn changed(&mut self) -> Result<()> {
        // The sender is in the watcher, so the channel stays open.
        let _ = self.changes.recv().await;
        while let Ok(Some(())) = tokio::time::timeout(REST, self.changes.recv()).await {}
        self.cover()
    }

    /// Watches new folders: each package's folder without its subfolders, and each source folder in it with all its
    /// subfolders. A `target` folder is not watched, because it changes too often.
    fn cover(&mut self) -> Result<()> {
        let mut wanted = vec![(self.sources.workspace.clone(), RecursiveMode::NonRecursive)];
        for (folder, _) in &self.sources.packages {
            wanted.push((folder.clone(), RecursiveMode::NonRecursive));
            let entries = std::fs::read_dir(folder)
                .with_context(|| format!("cannot read {}", folder.display()))?;
            let inner = entries.flatten().map(|entry| entry.path());
            wanted.extend(
                inner
                    .filter(|path| path.is_dir() && self.sources.contain(path))
                    .map(|path| (path, RecursiveMode::Recursive)),
            );
        }
        // A removed folder is forgotten, so that it is watched again if it reappears.
        self.watched.retain(|path| path.is_dir());
        for (path, mode) in wanted {
            if self.watched.insert(path.clone()) {
                self.watcher
                    .watch(&path, mode)
                    .with_context(|| format!("cannot watch {}", path.display()))?;
            }
        }
        Ok(())
    }
}

impl Sources {
    fn new(packages: &[PathBuf], workspace: &Path, target_dir: &Path) -> Self {
        let package = |folder: &PathBuf| {
            // If the file is missing or a line is invalid, fewer paths are ignored.
            let (ignored, _) = Gitignore::new(folder.join(".gitignore"));
            (folder.clone(), ignored)
        };
        Self {
            packages: packages.iter().map(package).collect(),
            workspace: workspace.to_owned(),
            target_dir: target_dir.to_owned(),
        }
    }

    /// Returns whether a path is a source: neither a build output, nor temporary, nor ignored by git.
    fn contain(&self, path: &Path) -> bool {
        if path.starts_with(&self.target_dir) {
            return false;
        }
        if path.parent() == Some(&self.workspace)
            && path
                .file_name()
                .is_some_and(|name| name == "Cargo.toml" || name == "Cargo.lock")
        {
            return true;
        }
        self.packages.iter().any(|(folder, ignored)| {
            let Ok(inner) = path.strip_prefix(folder) else {
                return false;
            };
            // Excludes editors' temporary files and generated folders.
            let by_hand = |part: &str| {
                !part.starts_with('.')
                    && !part.ends_with('~')
                    && part != "target"
                    && part != "node_modules"
            };
            inner.iter().filter_map(|part| part.to_str()).all(by_hand)
                && !ignored
                    .matched_path_or_any_parents(inner, path.is_dir())
                    .is_ignore()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_ignored_or_left_by_editors_is_no_source() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("member");
        std::fs::create_dir(&package).unwrap();
        std::fs::write(package.join(".gitignore"), "/results\n").unwrap();
        let target = folder.path().join("member/out");
        let sources = Sources::new(&[package], folder.path(), &target);
        for source in ["member/src/main.rs", "member/Cargo.toml", "Cargo.lock"] {
            assert!(sources.contain(&folder.path().join(source)), "{source}");
        }
        for other in [
            "member/target/debug/a",
            "member/out/a",
            "member/results/1.png",
            "member/.git/HEAD",
            "member/src/.main.rs.swp",
            "member/src/main.rs~",
            "other/src/main.rs",
            "README.md",
        ] {
            assert!(!sources.contain(&folder.path().join(other)), "{other}");
        }
    }
}
