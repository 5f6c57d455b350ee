//! The files of a cache on the volume. A generation is a numbered manifest. Manifests and the objects that they refer
//! to never change.
//!
//! ```text
//! <volume>/.podwork-cache/<name>/manifests/00000000000000000012.json
//!                                objects/<batch>/0.tar       small files
//!                                objects/<batch>/1           a large file
//! ```
//!
//! The cache uses no locks, since they may not work on a network volume. Each batch is written by one worker under a
//! random name. A manifest gets its number through a hard link, which only one of several workers can create.

use std::collections::HashSet;
use std::fs::{self, DirEntry, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::file_io::{
    is_link, is_missing, is_unreadable, link, list, open, remove, remove_all, sync_folder,
    write_new,
};
use super::manifest::{Manifest, ManifestError};
use super::report::CacheError;

/// Maximum size of a manifest, in bytes: enough for about two million files.
const MAX_MANIFEST: u64 = 512 * 1024 * 1024;
/// Maximum length of a cache's name, in bytes.
const MAX_NAME: usize = 200;
/// File name prefix of a manifest that has no number yet.
pub(super) const NEW: &str = ".new-";

/// The files of one cache on a volume.
#[derive(Debug, Clone)]
pub(super) struct CacheStore {
    folder: PathBuf,
}

/// The reason why an object cannot be read.
#[derive(Debug)]
pub(super) enum ObjectError {
    /// The object does not exist, or was removed.
    Missing,
    /// The object is damaged, for this reason.
    Damaged(String),
    /// Reading failed.
    Io(io::Error),
}

/// The names of unusable objects.
#[derive(Debug, Default)]
pub(super) struct BadObjects {
    /// Objects that are damaged or missing.
    pub(super) damaged: HashSet<String>,
    /// Objects that could not be read while others could. A later attempt may succeed.
    pub(super) unreadable: HashSet<String>,
}

impl CacheStore {
    /// Opens the cache with this name. Creates no files or folders.
    pub(super) fn open(volume: &Path, name: &str) -> Result<Self, CacheError> {
        let is_plain = !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        if !is_plain || name.is_empty() || name.len() > MAX_NAME {
            return Err(CacheError::Name {
                name: name.to_owned(),
            });
        }
        match fs::metadata(volume) {
            Ok(metadata) if metadata.is_dir() => {}
            Err(error) if !is_missing(&error) => return Err(CacheError::at(volume)(error)),
            _ => {
                return Err(CacheError::NoVolume {
                    volume: volume.to_owned(),
                });
            }
        }
        let caches = volume.join(".podwork-cache");
        let store = Self {
            folder: caches.join(name),
        };
        let folders = [
            caches,
            store.folder.clone(),
            store.manifests(),
            store.objects(),
        ];
        // Symbolic links on the volume could lead anywhere, so they are rejected.
        for folder in folders {
            match fs::symlink_metadata(&folder) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => {
                    return Err(CacheError::Damaged {
                        path: folder,
                        problem: "not a folder".to_owned(),
                    });
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(CacheError::at(&folder)(error)),
            }
        }
        Ok(store)
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.folder.join("objects")
    }

    pub(super) fn manifest(&self, generation: u64) -> PathBuf {
        self.manifests().join(file_of(generation))
    }

    pub(super) fn object(&self, name: &str) -> PathBuf {
        self.objects().join(name)
    }

    /// Returns the numbers of the generations, latest first.
    pub(super) fn generations(&self) -> Result<Vec<u64>, CacheError> {
        let folder = self.manifests();
        let number = |entry: DirEntry| {
            let name = entry.file_name();
            let number: u64 = name.to_str()?.strip_suffix(".json")?.parse().ok()?;
            // Other files may have a similar name, or a number so large that no later number exists.
            let is_ours = name == *file_of(number) && number < u64::MAX / 2;
            is_ours.then_some(number)
        };
        let entries = list(&folder).map_err(CacheError::at(&folder))?;
        let mut numbers: Vec<u64> = entries.into_iter().filter_map(number).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// Reads the manifest with this number. Returns `None` if it was removed.
    pub(super) fn read(&self, generation: u64) -> Result<Option<Manifest>, CacheError> {
        let path = self.manifest(generation);
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::StaleNetworkFileHandle => Ok(None),
            _ => Err(CacheError::at(&path)(error)),
        };
        let damaged = |problem: &str| CacheError::Damaged {
            path: path.clone(),
            problem: problem.to_owned(),
        };
        // Checked before opening: opening a socket, for example, fails with a misleading error.
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_MANIFEST => {}
            Ok(_) => return Err(damaged("not a regular file, or too large")),
            Err(error) => return failed(error),
        }
        let mut bytes = Vec::new();
        let read = open(&path).and_then(|file| file.take(MAX_MANIFEST).read_to_end(&mut bytes));
        if let Err(error) = read {
            return failed(error);
        }
        match Manifest::from_bytes(&bytes) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(ManifestError::Newer(format)) => Err(CacheError::Newer { path, format }),
            Err(ManifestError::Damaged(problem)) => Err(damaged(&problem)),
        }
    }

    /// Opens an object. Returns an error if its length is not `len`.
    pub(super) fn open_object(&self, name: &str, len: u64) -> Result<File, ObjectError> {
        let path = self.object(name);
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::StaleNetworkFileHandle => ObjectError::Missing,
            _ if is_link(&error) => ObjectError::Damaged("unexpected symbolic link".to_owned()),
            _ => ObjectError::Io(error),
        };
        let batch = path.parent().unwrap_or(&path);
        if !fs::symlink_metadata(batch).map_err(failed)?.is_dir() {
            return Err(ObjectError::Damaged("its batch is not a folder".to_owned()));
        }
        let file = open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(ObjectError::Damaged("not a regular file".to_owned()));
        }
        if metadata.len() != len {
            let problem = format!("{} bytes long instead of {len}", metadata.len());
            return Err(ObjectError::Damaged(problem));
        }
        Ok(file)
    }

    /// Returns whether an object of this length exists. Does not check its content.
    pub(super) fn has(&self, name: &str, len: u64) -> Result<bool, CacheError> {
        let path = self.object(name);
        let look_up = |path: &Path| match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(CacheError::at(path)(error)),
        };
        let batch = look_up(path.parent().unwrap_or(&path))?;
        if !batch.is_some_and(|batch| batch.is_dir()) {
            return Ok(false);
        }
        Ok(look_up(&path)?.is_some_and(|object| object.is_file() && object.len() == len))
    }

    /// Reads a whole object, and returns whether its length is right and all of it is readable.
    pub(super) fn is_readable(&self, name: &str, len: u64) -> Result<bool, CacheError> {
        let opened = self.open_object(name, len);
        let read = opened.and_then(|mut object| {
            io::copy(&mut object, &mut io::sink()).map_err(ObjectError::Io)?;
            Ok(())
        });
        match read {
            Ok(()) => Ok(true),
            Err(ObjectError::Io(error)) if !is_unreadable(&error) => {
                Err(CacheError::at(&self.object(name))(error))
            }
            Err(_) => Ok(false),
        }
    }

    /// Creates a folder for objects, and returns its name.
    pub(super) fn new_batch(&self) -> Result<String, CacheError> {
        let name = Uuid::new_v4().simple().to_string();
        let folder = self.object(&name);
        fs::create_dir_all(&folder).map_err(CacheError::at(&folder))?;
        Ok(name)
    }

    /// Removes a batch that no manifest refers to.
    pub(super) fn discard(&self, batch: &str) {
        remove_all(&self.object(batch));
    }

    /// Writes a manifest without publishing it, and returns its path.
    pub(super) fn propose(
        &self,
        batch: Option<&str>,
        manifest: &Manifest,
    ) -> Result<PathBuf, CacheError> {
        let folder = self.manifests();
        fs::create_dir_all(&folder).map_err(CacheError::at(&folder))?;
        if let Some(batch) = batch {
            for folder in [self.object(batch), self.objects()] {
                sync_folder(&folder).map_err(CacheError::at(&folder))?;
            }
        }
        let new = folder.join(format!("{NEW}{}", Uuid::new_v4().simple()));
        write_new(&new, &manifest.to_bytes()).map_err(|error| {
            remove(&new);
            CacheError::at(&new)(error)
        })?;
        Ok(new)
    }

    /// Publishes a proposed manifest under the number after `latest`, and returns that number. Returns `None` if
    /// another worker has published a generation since. Even if this returns an error, the manifest may have been
    /// published.
    pub(super) fn publish(
        &self,
        new: &Path,
        latest: Option<u64>,
    ) -> Result<Option<u64>, CacheError> {
        let published = self.give_number(new, latest);
        remove(new);
        published
    }

    fn give_number(&self, new: &Path, latest: Option<u64>) -> Result<Option<u64>, CacheError> {
        // Another worker may have used the number, and the number may be free again since.
        if self.generations()?.first().copied() != latest {
            return Ok(None);
        }
        let generation = latest.unwrap_or(0) + 1;
        let folder = self.manifests();
        let published = link(new, &self.manifest(generation))
            .and_then(|published| sync_folder(&folder).map(|()| published))
            .map_err(CacheError::at(&folder))?;
        Ok(published.then_some(generation))
    }
}

/// Returns the file name of the manifest with this number.
pub(super) fn file_of(generation: u64) -> String {
    format!("{generation:020}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_cannot_be_looked_up_does_not_count_as_missing() {
        let volume = tempfile::tempdir().unwrap();
        let store = CacheStore::open(volume.path(), "test").unwrap();
        assert!(!store.has("a/1", 0).unwrap());
        fs::create_dir_all(store.objects()).unwrap();
        fs::write(store.object("a"), "").unwrap();
        assert!(!store.has("a/1", 0).unwrap());
        store.has(&format!("{}/1", "a".repeat(300)), 0).unwrap_err();
    }
}
