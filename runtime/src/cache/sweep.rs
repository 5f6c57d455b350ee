//! What is no longer of use, off the volume.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
use rustix::io::Errno;
use tracing::debug;

use super::manifest::Manifest;
use super::report::CacheError;
use super::store::{NEW, Store, file_of, list, remove, remove_all};

/// Generations that are kept: a worker that hydrates from one may finish while others sync.
const KEPT: usize = 4;
/// How old is what nobody refers to before it goes: it may be of a worker that has not finished.
const ABANDONED: Duration = Duration::from_hours(1);
/// … and a generation beyond those that are kept: whoever is about to give its number is not to find that free.
const OUTDATED: Duration = Duration::from_mins(5);

impl Store {
    /// Removes what is no longer of use: generations beyond those that are kept, and what none of the others refers to.
    /// That anything stays is no trouble.
    pub(super) fn sweep(&self, latest: &Manifest) {
        if let Err(error) = self.try_sweep(latest) {
            debug!("what is out of use stays on the volume: {error}");
        }
    }

    fn try_sweep(&self, latest: &Manifest) -> Result<(), CacheError> {
        let objects = self.objects();
        let Some(now) = touch(&objects).map_err(CacheError::at(&objects))? else {
            return Ok(());
        };
        let generations = self.generations()?;
        let (kept, out) = generations.split_at(generations.len().min(KEPT));
        // Not through links, which could lead anywhere.
        let is_folder = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let mut batches = list(&objects).map_err(CacheError::at(&objects))?;
        batches.retain(is_folder);
        let is_referred = |used: &BTreeSet<String>, batch: &DirEntry, file: &DirEntry| {
            let (batch, file) = (batch.file_name(), file.file_name());
            used.contains(&format!("{}/{}", batch.display(), file.display()))
        };
        let mut used: BTreeSet<String> = latest.objects.keys().cloned().collect();
        let mut all_known = false;
        for batch in batches {
            let path = batch.path();
            // What cannot be listed now may be in use.
            let Ok(files) = list(&path) else { continue };
            let is_used =
                |used: &BTreeSet<String>| files.iter().all(|file| is_referred(used, &batch, file));
            if !is_used(&used) && !all_known {
                used.extend(self.referred(kept)?);
                all_known = true;
            }
            let (referred, rest): (Vec<_>, Vec<_>) = files
                .iter()
                .partition(|file| is_referred(&used, &batch, file));
            if referred.is_empty() {
                // Not published, or not any more.
                if rest
                    .into_iter()
                    .chain([&batch])
                    .all(|part| is_old(part, now, ABANDONED))
                {
                    remove_all(&path);
                }
            } else {
                // It was published, so it is complete.
                for file in rest {
                    remove(&file.path());
                }
            }
        }
        let out: BTreeSet<String> = out.iter().copied().map(file_of).collect();
        let manifests = self.manifests();
        for entry in list(&manifests).map_err(CacheError::at(&manifests))? {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is_out = name.starts_with(NEW) && is_old(&entry, now, ABANDONED)
                || out.contains(&*name) && is_old(&entry, now, OUTDATED);
            if is_out {
                remove(&entry.path());
            }
        }
        Ok(())
    }

    /// What these generations refer to.
    fn referred(&self, generations: &[u64]) -> Result<BTreeSet<String>, CacheError> {
        let mut used = BTreeSet::new();
        for &generation in generations {
            match self.read(generation) {
                Ok(manifest) => used.extend(manifest.unwrap_or_default().objects.into_keys()),
                // What it refers to cannot be known, nor used.
                Err(CacheError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(used)
    }
}

fn is_old(entry: &DirEntry, now: SystemTime, limit: Duration) -> bool {
    let modified = entry.metadata().and_then(|found| found.modified());
    modified.is_ok_and(|then| now.duration_since(then).is_ok_and(|age| age > limit))
}

/// The present time by the clock of the volume that a folder is on, which need not have any room; `None` if it is not there.
fn touch(folder: &Path) -> io::Result<Option<SystemTime>> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    match utimensat(CWD, folder, &times, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) => fs::symlink_metadata(folder)?.modified().map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
