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

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use tracing::debug;
use uuid::Uuid;

use super::manifest::{Manifest, Unusable};
use super::report::CacheError;

/// Generations that are kept: a worker that hydrates from one may finish while others sync.
const KEPT: usize = 4;
/// How old is what nobody refers to before it goes: it may be of a worker that has not finished.
const ABANDONED: Duration = Duration::from_hours(1);
/// The longest manifest that is read: about two million files.
const LONGEST: u64 = 512 * 1024 * 1024;
/// What begins the name of a manifest that is yet to be given its number.
const NEW: &str = ".new-";

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

impl Store {
    /// The cache of this name. Nothing is made yet.
    pub(super) fn open(volume: &Path, name: &str) -> Result<Self, CacheError> {
        let is_name = !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
        if !is_name || name.is_empty() || name.len() > 200 {
            return Err(CacheError::Name {
                name: name.to_owned(),
            });
        }
        if !volume.is_dir() {
            return Err(CacheError::NoVolume {
                volume: volume.to_owned(),
            });
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

    fn manifests(&self) -> PathBuf {
        self.folder.join("manifests")
    }

    fn objects(&self) -> PathBuf {
        self.folder.join("objects")
    }

    fn manifest(&self, generation: u64) -> PathBuf {
        self.manifests().join(format!("{generation:020}.json"))
    }

    pub(super) fn object(&self, name: &str) -> PathBuf {
        self.objects().join(name)
    }

    /// The numbers of the generations, the latest first.
    pub(super) fn generations(&self) -> Result<Vec<u64>, CacheError> {
        let folder = self.manifests();
        let number = |entry: DirEntry| {
            let name = entry.file_name();
            let number = name.to_str()?.strip_suffix(".json")?;
            number.parse().ok().filter(|number| *number < u64::MAX)
        };
        let mut numbers: Vec<u64> = list(&folder)
            .map_err(CacheError::at(&folder))?
            .filter_map(number)
            .collect();
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
        let file = match open(&path) {
            Ok(file) => file,
            Err(error) if is_link(&error) => return Err(damaged("it is a link")),
            Err(error) => return failed(error),
        };
        let found = match file.metadata() {
            Ok(found) => found,
            Err(error) => return failed(error),
        };
        if !found.is_file() || found.len() > LONGEST {
            return Err(damaged("it is no manifest"));
        }
        let mut bytes = Vec::new();
        if let Err(error) = file.take(LONGEST).read_to_end(&mut bytes) {
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
    pub(super) fn has(&self, name: &str, len: u64) -> bool {
        let path = self.object(name);
        let is_folder = |batch: &Path| fs::symlink_metadata(batch).is_ok_and(|it| it.is_dir());
        path.parent().is_some_and(is_folder)
            && fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == len)
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

    /// Gives the manifest this number, unless another has it; whether it has it now.
    pub(super) fn publish(
        &self,
        generation: u64,
        batch: Option<&str>,
        manifest: &Manifest,
    ) -> Result<bool, CacheError> {
        let folder = self.manifests();
        fs::create_dir_all(&folder).map_err(CacheError::at(&folder))?;
        if let Some(batch) = batch {
            for folder in [self.object(batch), self.objects()] {
                sync_folder(&folder).map_err(CacheError::at(&folder))?;
            }
        }
        let new = folder.join(format!("{NEW}{}", Uuid::new_v4().simple()));
        let published = write_new(&new, &manifest.to_bytes())
            .and_then(|()| link(&new, &self.manifest(generation)))
            .and_then(|published| sync_folder(&folder).map(|()| published));
        remove(&new);
        published.map_err(CacheError::at(&folder))
    }

    /// Removes what is no longer of use: generations beyond those that are kept, and what none of the others refers to.
    /// That anything stays is no trouble.
    pub(super) fn sweep(&self, latest: &Manifest) {
        if let Err(error) = self.try_sweep(latest) {
            debug!("what is out of use stays on the volume: {error}");
        }
    }

    fn try_sweep(&self, latest: &Manifest) -> Result<(), CacheError> {
        let generations = self.generations()?;
        let (kept, out) = generations.split_at(generations.len().min(KEPT));
        let objects = self.objects();
        // Not through links, which could lead anywhere.
        let is_folder = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let batches = list(&objects).map_err(CacheError::at(&objects))?;
        let batches: Vec<_> = batches.filter(is_folder).collect();
        let is_referred = |used: &BTreeSet<String>, batch: &DirEntry, file: &DirEntry| {
            let (batch, file) = (batch.file_name(), file.file_name());
            used.contains(&format!("{}/{}", batch.display(), file.display()))
        };
        let mut used: BTreeSet<String> = latest.objects.keys().cloned().collect();
        let mut all_known = false;
        let now = self.now(kept);
        for batch in batches {
            let path = batch.path();
            let files: Vec<_> = list(&path).into_iter().flatten().collect();
            if !files.is_empty() && files.iter().all(|file| is_referred(&used, &batch, file)) {
                continue;
            }
            if !all_known {
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
                    .all(|part| is_old(part, now))
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
        for generation in out {
            remove(&self.manifest(*generation));
        }
        let manifests = self.manifests();
        for entry in list(&manifests).map_err(CacheError::at(&manifests))? {
            let is_new = entry.file_name().to_string_lossy().starts_with(NEW);
            if is_new && is_old(&entry, now) {
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

    /// The present time by the volume's clock: a generation was just published.
    fn now(&self, kept: &[u64]) -> Option<SystemTime> {
        let latest = self.manifest(*kept.first()?);
        fs::symlink_metadata(latest).ok()?.modified().ok()
    }
}

fn is_old(entry: &DirEntry, now: Option<SystemTime>) -> bool {
    let age = |now: SystemTime| {
        let modified = entry.metadata().ok()?.modified().ok()?;
        now.duration_since(modified).ok()
    };
    now.and_then(age).is_some_and(|age| age > ABANDONED)
}

/// What is in a folder; nothing, if it is not there.
fn list(folder: &Path) -> io::Result<impl Iterator<Item = DirEntry>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => Some(entries),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(entries.into_iter().flatten().filter_map(Result::ok))
}

/// Opens to read what must be no link, and waits for no pipe's other end.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
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

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        debug!("{} stays: {error}", path.display());
    }
}

fn remove_all(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != ErrorKind::NotFound
    {
        debug!("{} stays: {error}", path.display());
    }
}
