//! Removal of unused files from the volume.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::time::{Duration, SystemTime};

use tracing::debug;

use crate::net::http::chain;

use super::file_io::{list, remove, remove_all, volume_time};
use super::manifest::Manifest;
use super::report::CacheError;
use super::store::{CacheStore, NEW, file_of};

/// Number of generations to keep: a worker may still read an earlier one while others sync.
const KEPT: usize = 4;
/// Minimum age of unreferenced files to remove. Newer ones may belong to a sync that is running.
const ABANDONED: Duration = Duration::from_hours(1);
/// Minimum age of a generation to remove, if it is not one of the [kept](KEPT) ones. Its number must not become free
/// while another worker is about to publish.
const OUTDATED: Duration = Duration::from_mins(5);

impl CacheStore {
    /// Removes all generations but the [kept](KEPT) ones, and objects that neither these nor `latest` refer to. Only
    /// logs failures.
    pub(super) fn sweep(&self, latest: &Manifest) {
        if let Err(error) = self.try_sweep(latest) {
            debug!(error = %chain(&error), "Could not remove unused files of the cache.");
        }
    }

    fn try_sweep(&self, latest: &Manifest) -> Result<(), CacheError> {
        let objects = self.objects();
        let Some(now) = volume_time(&objects).map_err(CacheError::at(&objects))? else {
            return Ok(());
        };
        let generations = self.generations()?;
        let (kept, outdated) = generations.split_at(generations.len().min(KEPT));
        self.sweep_objects(latest, kept, now)?;
        self.sweep_manifests(outdated, now)
    }

    fn sweep_objects(
        &self,
        latest: &Manifest,
        kept: &[u64],
        now: SystemTime,
    ) -> Result<(), CacheError> {
        let objects = self.objects();
        let mut batches = list(&objects).map_err(CacheError::at(&objects))?;
        // Symbolic links could lead anywhere, so they are not followed.
        batches.retain(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut used: BTreeSet<String> = latest.objects.keys().cloned().collect();
        let mut knows_all = false;
        for batch in batches {
            let path = batch.path();
            // A batch that cannot be listed now may be in use.
            let Ok(files) = list(&path) else { continue };
            let is_used = |used: &BTreeSet<String>, file: &DirEntry| {
                let (batch, file) = (batch.file_name(), file.file_name());
                used.contains(&format!("{}/{}", batch.display(), file.display()))
            };
            if !knows_all && !files.iter().all(|file| is_used(&used, file)) {
                used.extend(self.referenced_by(kept)?);
                knows_all = true;
            }
            let (used, unused): (Vec<_>, Vec<_>) =
                files.iter().partition(|file| is_used(&used, file));
            if !used.is_empty() {
                // The batch was published, so no worker is still writing to it.
                for file in unused {
                    remove(&file.path());
                }
            } else if unused
                .into_iter()
                .chain([&batch])
                .all(|entry| is_old(entry, now, ABANDONED))
            {
                remove_all(&path);
            }
        }
        Ok(())
    }

    fn sweep_manifests(&self, outdated: &[u64], now: SystemTime) -> Result<(), CacheError> {
        let outdated: BTreeSet<String> = outdated.iter().copied().map(file_of).collect();
        let manifests = self.manifests();
        for entry in list(&manifests).map_err(CacheError::at(&manifests))? {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_unused = name.starts_with(NEW) && is_old(&entry, now, ABANDONED)
                || outdated.contains(&*name) && is_old(&entry, now, OUTDATED);
            if is_unused {
                remove(&entry.path());
            }
        }
        Ok(())
    }

    /// Returns the objects that these generations refer to.
    fn referenced_by(&self, generations: &[u64]) -> Result<BTreeSet<String>, CacheError> {
        let mut used = BTreeSet::new();
        for &generation in generations {
            match self.read(generation) {
                Ok(manifest) => used.extend(manifest.unwrap_or_default().objects.into_keys()),
                // A damaged manifest is never used, and neither are its objects.
                Err(CacheError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(used)
    }
}

fn is_old(entry: &DirEntry, now: SystemTime, limit: Duration) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > limit))
}
