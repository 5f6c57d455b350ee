//! The volume's side. A generation is a manifest with a number, and never changes; what it refers to never changes either.
//!
//! ```text
//! <volume>/.podwork-cache/<name>/manifests/00000000000000000012.json
//!                                objects/<batch>/0.tar       small files
//!                                objects/<batch>/1           a large one
//! ```
//!
//! No locks: they may not work on a network volume. A batch is written by one worker under a name of its own. A manifest
//! gets its number by a hard link, which of several workers only one can make.

use std::collections::HashSet;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use tracing::debug;
use uuid::Uuid;

use super::manifest::{Manifest, Unusable};
use super::report::CacheError;

/// The longest manifest that is read: about two million files.
const LONGEST: u64 = 512 * 1024 * 1024;
/// What begins the name of a manifest that is yet to be given its number.
pub(super) const NEW: &str = ".new-";

/// A cache on a volume.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
}

/// Why an object cannot be read.
#[derive(Debug)]
pub(super) enum Lost {
    /// It is not there, or not any more.
    Gone,
    /// It is not what was written.
    Damaged(String),
    /// The volume fails.
    Failed(io::Error),
}

/// Objects that cannot be used.
#[derive(Debug, Default)]
pub(super) struct Bad {
    /// They are not what was written.
    pub(super) damaged: HashSet<String>,
    /// They could not be read, where others could; it may go well another time.
    pub(super) unread: HashSet<String>,
}

impl Store {
    /// The cache of this name. Nothing is made yet.
    pub(super) fn open(volume: &Path, name: &str) -> Result<Self, CacheError> {
        let is_name = !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        if !is_name || name.is_empty() || name.len() > 200 {
            return Err(CacheError::Name {
                name: name.to_owned(),
            });
        }
        match fs::metadata(volume) {
            Ok(found) if found.is_dir() => {}
            Err(error) if !is_absent(&error) => return Err(CacheError::at(volume)(error)),
            _ => {
                return Err(CacheError::NoVolume {
                    volume: volume.to_owned(),
                });
            }
        }
        let all = volume.join(".podwork-cache");
        let store = Self {
            folder: all.join(name),
        };
        // Links on the volume could lead anywhere.
        let parts = [
            all,
            store.folder.clone(),
            store.manifests(),
            store.objects(),
        ];
        for folder in parts {
            match fs::symlink_metadata(&folder) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => {
                    return Err(CacheError::Damaged {
                        path: folder,
                        problem: "it is no folder".to_owned(),
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

    /// The numbers of the generations, the latest first.
    pub(super) fn generations(&self) -> Result<Vec<u64>, CacheError> {
        let folder = self.manifests();
        let number = |entry: DirEntry| {
            let name = entry.file_name();
            let number: u64 = name.to_str()?.strip_suffix(".json")?.parse().ok()?;
            // Others' files may be called nearly so, or leave no number for the next.
            let is_ours = name == *file_of(number) && number < u64::MAX / 2;
            is_ours.then_some(number)
        };
        let entries = list(&folder).map_err(CacheError::at(&folder))?;
        let mut numbers: Vec<u64> = entries.into_iter().filter_map(number).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// The manifest of this number; `None` if it is gone.
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
        // Before it is opened: a socket, say, cannot be.
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() <= LONGEST => {}
            Ok(_) => return Err(damaged("it is no manifest")),
            Err(error) => return failed(error),
        }
        let mut bytes = Vec::new();
        let read = open(&path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
        if let Err(error) = read {
            return failed(error);
        }
        match Manifest::from_bytes(&bytes) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Unusable::Newer(format)) => Err(CacheError::Newer { path, format }),
            Err(Unusable::Damaged(problem)) => Err(damaged(&problem)),
        }
    }

    /// Opens what holds files' bytes, if it is as long as it should be.
    pub(super) fn open_object(&self, name: &str, len: u64) -> Result<File, Lost> {
        let path = self.object(name);
        let lost = |error: io::Error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::StaleNetworkFileHandle => Lost::Gone,
            _ if is_link(&error) => Lost::Damaged("it is a link".to_owned()),
            _ => Lost::Failed(error),
        };
        let batch = path.parent().unwrap_or(&path);
        if !fs::symlink_metadata(batch).map_err(lost)?.is_dir() {
            return Err(Lost::Damaged("its folder is none".to_owned()));
        }
        let file = open(&path).map_err(lost)?;
        let found = file.metadata().map_err(lost)?;
        if !found.is_file() {
            return Err(Lost::Damaged("it is no file".to_owned()));
        }
        if found.len() != len {
            let problem = format!("it has {} bytes instead of {len}", found.len());
            return Err(Lost::Damaged(problem));
        }
        Ok(file)
    }

    /// Whether an object is there, by its length.
    pub(super) fn has(&self, name: &str, len: u64) -> Result<bool, CacheError> {
        let path = self.object(name);
        let look = |path: &Path| match fs::symlink_metadata(path) {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(CacheError::at(path)(error)),
        };
        let batch = look(path.parent().unwrap_or(&path))?;
        if !batch.is_some_and(|batch| batch.is_dir()) {
            return Ok(false);
        }
        Ok(look(&path)?.is_some_and(|found| found.is_file() && found.len() == len))
    }

    /// Whether an object can be read by now; all of it is.
    pub(super) fn is_readable(&self, name: &str, len: u64) -> Result<bool, CacheError> {
        let opened = self.open_object(name, len);
        let read = opened.and_then(|mut object| {
            io::copy(&mut object, &mut io::sink()).map_err(Lost::Failed)?;
            Ok(())
        });
        match read {
            Ok(()) => Ok(true),
            Err(Lost::Failed(error)) if !is_broken(&error) => {
                Err(CacheError::at(&self.object(name))(error))
            }
            Err(_) => Ok(false),
        }
    }

    /// A new folder for objects, and its name.
    pub(super) fn new_batch(&self) -> Result<String, CacheError> {
        let name = Uuid::new_v4().simple().to_string();
        let folder = self.object(&name);
        fs::create_dir_all(&folder).map_err(CacheError::at(&folder))?;
        Ok(name)
    }

    /// Takes back a batch that no manifest will refer to.
    pub(super) fn discard(&self, batch: &str) {
        remove_all(&self.object(batch));
    }

    /// Writes a manifest that is yet to be published.
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

    /// Gives what was proposed the number after `latest`; `None` if there are later ones by now. It may have its number
    /// though there is an error.
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
        // The number may have been another's, and be free again.
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

/// What the manifest of this number is called.
pub(super) fn file_of(generation: u64) -> String {
    format!("{generation:020}.json")
}

/// All that is in a folder; nothing, if it is not there.
pub(super) fn list(folder: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Opens to read what must be no link, and waits for no pipe's other end.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// It is what is read that fails.
pub(super) fn is_broken(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// What is in a folder is so after a crash, too. Not all volumes can be asked for that.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if !is_unable(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Gives a file this name as well; `false` if another has it.
fn link(new: &Path, name: &Path) -> io::Result<bool> {
    match fs::hard_link(new, name) {
        Ok(()) => Ok(true),
        // The answer to a call that went well may have been lost, and the call repeated.
        Err(_) if fs::symlink_metadata(new)?.nlink() > 1 => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        // No links here. Of two that come at the same moment, the later one wins.
        Err(error) if is_unable(&error) => {
            let free = !name.try_exists()?;
            if free {
                fs::rename(new, name)?;
            }
            Ok(free)
        }
        Err(error) => Err(error),
    }
}

fn is_unable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unsupported | ErrorKind::InvalidInput | ErrorKind::PermissionDenied
    )
}

pub(super) fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        debug!("{} stays: {error}", path.display());
    }
}

pub(super) fn remove_all(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != ErrorKind::NotFound
    {
        debug!("{} stays: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_for_is_not_taken_for_gone() {
        let volume = tempfile::tempdir().unwrap();
        let store = Store::open(volume.path(), "test").unwrap();
        assert!(!store.has("a/1", 0).unwrap());
        fs::create_dir_all(store.objects()).unwrap();
        fs::write(store.object("a"), "").unwrap();
        assert!(!store.has("a/1", 0).unwrap());
        store.has(&format!("{}/1", "a".repeat(300)), 0).unwrap_err();
    }
}
