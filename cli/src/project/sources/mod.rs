//! The watcher of a worker's sources.
//!
//! Cargo lists the files that a binary was built from, so only those are watched. A file that the worker or the tool
//! writes beside them changes nothing. While the last build has failed, the list is incomplete: then every Rust file
//! that git does not ignore counts, and every other file that appears or disappears.
//!
//! An event only causes a comparison of the files with their state before the build. So a change during the build is
//! noticed, and polling needs nothing more.

mod dep_info;
mod file_state;
mod interest;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::sleep;

use super::Project;
use file_state::FileStates;
use interest::Interest;

/// The time without changes after which a build starts. Editors write a file in several steps.
const REST: Duration = Duration::from_millis(100);
/// The maximum number of comparisons of files that keep changing, before a build starts.
const MOST_RESTS: u32 = 50;
/// The maximum number of builds in a row that are repeated because the sources have changed meanwhile.
const MOST_DISTURBED: u32 = 4;
/// The interval of polling.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A watcher of a worker's sources.
#[derive(Debug)]
pub(crate) struct SourceWatcher {
    interest: Arc<RwLock<Interest>>,
    /// The sources known without a build: manifests, and the files that cargo finds by name.
    fixed: BTreeSet<PathBuf>,
    /// The state of the sources that the last build has seen.
    seen: FileStates,
    /// The number of builds in a row during which the sources have changed.
    disturbed: u32,
    changes: Changes,
    poll_reason: Option<String>,
}

/// The changes of the sources during a build.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DuringBuild {
    Unchanged,
    /// Another build is needed.
    Changed,
    /// The sources have changed during several builds in a row, so another build would not help: a build script
    /// probably writes them.
    AlwaysChanged,
}

/// The cause of a comparison.
#[derive(Debug)]
enum Changes {
    Events {
        watcher: RecommendedWatcher,
        events: Receiver<()>,
        watched: BTreeSet<PathBuf>,
    },
    Poll,
}

impl SourceWatcher {
    /// Watches the sources of a project, and `others`, which are files as well. With `poll`, looks at the files in an
    /// interval, and uses no events of the file system.
    pub(crate) fn start(project: &Project, others: &[PathBuf], poll: bool) -> Self {
        let fixed = fixed(project, others);
        let interest = Arc::new(RwLock::new(Interest::new(project, fixed.clone())));
        let mut watch = Self {
            interest: Arc::clone(&interest),
            fixed,
            seen: FileStates::default(),
            disturbed: 0,
            changes: Changes::Poll,
            poll_reason: None,
        };
        if !poll {
            match Changes::events(interest) {
                Ok(events) => watch.changes = events,
                Err(error) => watch.poll(&error),
            }
        }
        watch
    }

    /// Returns the reason why this watcher polls although it was not asked to, once.
    pub(crate) fn poll_reason(&mut self) -> Option<String> {
        self.poll_reason.take()
    }

    fn poll(&mut self, reason: &anyhow::Error) {
        self.poll_reason = Some(format!("{reason:#}"));
        self.changes = Changes::Poll;
    }

    /// Notes the state of the sources. Call it before each build.
    pub(crate) fn before_build(&mut self) {
        self.seen = self.now().with_contents();
    }

    /// Reads the list of sources of a build: `binary` is its result, or `None` if it failed. Returns whether the sources
    /// have changed during the build.
    pub(crate) fn after_build(&mut self, binary: Option<&Path>) -> DuringBuild {
        let changed = !self.seen.has_same_contents(&self.now());
        let listed = binary.and_then(dep_info::sources_of);
        let mut interest = self
            .interest
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        interest.update(&self.fixed, listed);
        drop(interest);
        self.seen = self.now();
        self.cover();
        self.disturbed = if changed { self.disturbed + 1 } else { 0 };
        match self.disturbed {
            0 => DuringBuild::Unchanged,
            1..=MOST_DISTURBED => DuringBuild::Changed,
            _ => {
                self.disturbed = 0;
                DuringBuild::AlwaysChanged
            }
        }
    }

    /// Waits for a change of the sources since the last build, and then until they no longer change.
    pub(crate) async fn changed(&mut self) {
        loop {
            // Before the wait, because a caller may drop this future after the event.
            let mut now = self.now();
            for _ in 0..MOST_RESTS {
                if now == self.seen {
                    break;
                }
                sleep(REST).await;
                let before = std::mem::replace(&mut now, self.now());
                if before == now {
                    return;
                }
            }
            if now != self.seen {
                return;
            }
            self.changes.next().await;
            // The event may be a new folder on the path of a source.
            self.cover();
        }
    }

    fn now(&self) -> FileStates {
        self.interest
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .states()
    }

    /// Watches the folders of the current sources.
    fn cover(&mut self) {
        if matches!(self.changes, Changes::Poll) {
            return;
        }
        let folders = self
            .interest
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .folders();
        if let Err(error) = self.changes.cover(folders) {
            self.poll(&error);
        }
    }
}

impl Changes {
    fn events(interest: Arc<RwLock<Interest>>) -> Result<Self> {
        // One pending change is enough to start a comparison.
        let (sender, events) = channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let matters = match event {
                Ok(event) if matches!(event.kind, EventKind::Access(_)) => false,
                Ok(event) => {
                    let interest = interest.read().unwrap_or_else(PoisonError::into_inner);
                    event.need_rescan() || event.paths.iter().any(|path| interest.concerns(path))
                }
                // Events were lost, and one of them may be a change.
                Err(_) => true,
            };
            if matters {
                // An error means that the channel already holds a change.
                let _ = sender.try_send(());
            }
        });
        Ok(Self::Events {
            watcher: watcher.context("cannot watch the sources")?,
            events,
            watched: BTreeSet::new(),
        })
    }

    /// Watches these folders, and no others. Watches known ones again, because a folder may have been replaced.
    fn cover(&mut self, folders: BTreeSet<PathBuf>) -> Result<()> {
        let Self::Events {
            watcher, watched, ..
        } = self
        else {
            return Ok(());
        };
        for folder in watched.difference(&folders) {
            // An error means that the folder no longer exists.
            let _ = watcher.unwatch(folder);
        }
        for folder in &folders {
            let watching = watcher.watch(folder, RecursiveMode::NonRecursive);
            // A folder that was removed meanwhile causes an event of the folder above it.
            if folder.is_dir() {
                watching.with_context(|| format!("cannot watch {}", folder.display()))?;
            }
        }
        *watched = folders;
        Ok(())
    }

    async fn next(&mut self) {
        match self {
            // The sender is in the watcher, so the channel stays open.
            Self::Events { events, .. } => drop(events.recv().await),
            Self::Poll => sleep(POLL_INTERVAL).await,
        }
    }
}

/// Returns the sources of a project that are known without a build.
fn fixed(project: &Project, others: &[PathBuf]) -> BTreeSet<PathBuf> {
    const OF_PACKAGES: [&str; 4] = ["Cargo.toml", "build.rs", "src/main.rs", "src/lib.rs"];
    const OF_WORKSPACES: [&str; 6] = [
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain",
        "rust-toolchain.toml",
        ".cargo/config",
        ".cargo/config.toml",
    ];

    let packages = project.local.iter();
    let packages = packages.flat_map(|folder| OF_PACKAGES.map(|name| folder.join(name)));
    let workspaces = [&project.workspace, &project.folder].into_iter();
    let workspaces = workspaces.flat_map(|folder| OF_WORKSPACES.map(|name| folder.join(name)));
    packages
        .chain(workspaces)
        .chain(others.iter().cloned())
        .collect()
}

#[cfg(test)]
mod tests;
