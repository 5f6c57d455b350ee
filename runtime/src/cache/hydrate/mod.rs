//! Copies a generation from the volume to the local directories, after reading and checking all of it.

mod place;
mod ranges;
mod stage;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::net::http::chain;

use super::file_io::is_unreadable;
use super::manifest::{FileEntry, Manifest, Root, Roots};
use super::parallel::each;
use super::report::{CacheError, Hydrated};
use super::store::{BadObjects, CacheStore, ObjectError};
use super::tree::{Directory, Staging};

use place::{LocalChanges, missing_files, place_files, place_links};
use ranges::{MissingFile, ranges};

/// Maximum number of restarts because other workers have synced and removed the generation meanwhile.
const RETRIES: usize = 5;

/// Copies missing files from the latest usable generation. Returns the result, and the content that the directories now
/// share with that generation. Adds unusable objects to `bad`.
pub(super) fn hydrate(
    store: &CacheStore,
    directories: &[Directory],
    threads: usize,
    bad: &mut BadObjects,
    stop: &CancellationToken,
) -> Result<(Hydrated, Option<Roots>), CacheError> {
    let mut retries = 0;
    let mut generations = store.generations()?;
    'start: loop {
        let mut problem = None;
        for &generation in &generations {
            let error = match restore(store, generation, directories, threads, stop) {
                Ok((mut hydrated, base)) => {
                    hydrated.problem = problem;
                    return Ok((hydrated, Some(base)));
                }
                Err(error) => error,
            };
            if error.is_removed() {
                let now = store.generations()?;
                if now.first() != generations.first() && retries < RETRIES {
                    retries += 1;
                    generations = now;
                    continue 'start;
                }
            }
            let error = match error {
                HydrateError::Removed => continue,
                HydrateError::Objects(failed) => failed.record(store, bad),
                HydrateError::Manifest(error) => error,
                HydrateError::Other(error) => return Err(error),
            };
            warn!(
                generation,
                error = %chain(&error),
                "A generation of the cache is unusable; trying the previous one."
            );
            // The result reports the error of the latest generation.
            problem = problem.or(Some(error));
        }
        let hydrated = Hydrated {
            problem,
            ..Hydrated::default()
        };
        return Ok((hydrated, None));
    }
}

/// The reason why a generation cannot be used.
enum HydrateError {
    /// The manifest was removed.
    Removed,
    /// The manifest is unusable.
    Manifest(CacheError),
    /// Some of the generation's objects are unusable.
    Objects(FailedObjects),
    /// An error that other generations would cause as well.
    Other(CacheError),
}

/// Objects that could not be read.
struct FailedObjects {
    objects: Vec<(String, ObjectError)>,
    /// True if other objects could be read, so that the volume itself works.
    others_read: bool,
}

impl HydrateError {
    /// Returns whether the generation may have been removed because other workers have synced since.
    fn is_removed(&self) -> bool {
        match self {
            Self::Removed => true,
            Self::Objects(failed) => {
                let mut objects = failed.objects.iter();
                objects.any(|(_, error)| matches!(error, ObjectError::Missing))
            }
            Self::Manifest(_) | Self::Other(_) => false,
        }
    }
}

impl From<CacheError> for HydrateError {
    fn from(error: CacheError) -> Self {
        Self::Other(error)
    }
}

impl FailedObjects {
    /// Adds the objects to `bad`, and returns the error of the first one.
    fn record(self, store: &CacheStore, bad: &mut BadObjects) -> CacheError {
        let mut first = None;
        for (object, error) in self.objects {
            let path = store.object(&object);
            let error = match error {
                ObjectError::Io(error) => {
                    if self.others_read && is_unreadable(&error) {
                        bad.unreadable.insert(object);
                    }
                    CacheError::at(&path)(error)
                }
                ObjectError::Damaged(problem) => {
                    bad.damaged.insert(object);
                    CacheError::Damaged { path, problem }
                }
                ObjectError::Missing => {
                    bad.damaged.insert(object);
                    let problem = "the file is missing".to_owned();
                    CacheError::Damaged { path, problem }
                }
            };
            first.get_or_insert(error);
        }
        first.expect("at least one object has failed")
    }
}

/// The files of one directory that must be copied.
struct MissingFiles<'a> {
    directory: &'a Directory,
    root: &'a Root,
    staging: Staging,
    files: Vec<(&'a str, &'a FileEntry)>,
}

/// Copies the missing files of a generation. Reads and checks all of them before it moves the first one to its path.
fn restore(
    store: &CacheStore,
    generation: u64,
    directories: &[Directory],
    threads: usize,
    stop: &CancellationToken,
) -> Result<(Hydrated, Roots), HydrateError> {
    let mut manifest = match store.read(generation) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => return Err(HydrateError::Removed),
        Err(error @ CacheError::Newer { .. }) => return Err(HydrateError::Other(error)),
        Err(error) => return Err(HydrateError::Manifest(error)),
    };
    let mut hydrated = Hydrated {
        generation: Some(generation),
        ..Hydrated::default()
    };
    let mut changes = LocalChanges::default();
    let mut missing = Vec::new();
    for directory in directories {
        if let Some(root) = manifest.roots.get(&directory.name) {
            let files = missing_files(directory, root, &mut hydrated, &mut changes)?;
            let staging = directory.staging(!files.is_empty())?;
            missing.push(MissingFiles {
                directory,
                root,
                staging,
                files,
            });
        }
    }
    stage_all(store, &manifest, &missing, threads, stop)?;
    // From here on each local file is complete, even if this process is killed.
    for directory in &missing {
        place_files(directory, &mut hydrated, &mut changes)?;
        hydrated.files += place_links(directory.directory, directory.root, &mut changes)?;
    }
    drop(missing);
    changes.remove_from(&mut manifest.roots);
    Ok((hydrated, manifest.roots))
}

/// Reads and checks all missing files, and writes them to the staging folders.
fn stage_all(
    store: &CacheStore,
    manifest: &Manifest,
    missing: &[MissingFiles<'_>],
    threads: usize,
    stop: &CancellationToken,
) -> Result<(), HydrateError> {
    let files = missing.iter().flat_map(|missing| {
        let files = missing.files.iter().enumerate();
        files.map(|(number, (path, entry))| MissingFile {
            directory: &missing.directory.name,
            staged: missing.staging.file(number),
            path,
            entry,
        })
    });
    let ranges = ranges(files.collect());
    let failed = each(threads, stop, &ranges, |buffer, range| {
        let len = manifest.objects[range.object];
        let staged = match store.open_object(range.object, len) {
            Ok(object) => stage::stage(range, &object, buffer, stop)?,
            Err(error) => Err(error),
        };
        Ok(staged.err().map(|error| (range.object.to_owned(), error)))
    })?;
    let objects: Vec<_> = failed.into_iter().flatten().collect();
    if objects.is_empty() {
        return Ok(());
    }
    let others_read = objects.len() < ranges.len();
    Err(HydrateError::Objects(FailedObjects {
        objects,
        others_read,
    }))
}
