//! The cached directories on the local disk.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, FileTimes, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tracing::{debug, warn};
use walkdir::{DirEntry, WalkDir};

use super::manifest::{FileEntry, Stamp, stays_inside};
use super::report::CacheError;

/// Resolution of file times: two changes within this period may result in the same time.
const TICK: Duration = Duration::from_millis(20);
/// Name prefix of the folders for incomplete files.
const STAGING: &str = ".podwork-hydrate-";

/// A cached directory.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    /// The directory's name on the volume: the absolute path, with links unresolved.
    pub(super) name: String,
    /// The directory's path, with links resolved.
    pub(super) path: PathBuf,
}

/// The content of a directory, by path relative to it.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: BTreeMap<String, FileStat>,
    /// The target of each symbolic link.
    pub(super) links: BTreeMap<String, String>,
    /// True if part of the directory could not be read, so that an unlisted file may exist.
    pub(super) is_partial: bool,
}

/// The metadata of a file when it was examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStat {
    pub(super) stamp: Stamp,
    /// Permission bits.
    pub(super) mode: u32,
    /// Time of the last change to content or metadata, in seconds and nanoseconds.
    ctime: (i64, i64),
}

impl FileStat {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let nanos =
            i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        let clamped = nanos.clamp(i64::MIN.into(), i64::MAX.into());
        Self {
            stamp: Stamp {
                size: metadata.len(),
                mtime: i64::try_from(clamped).unwrap_or_default(),
            },
            // Without the setuid, setgid and sticky bits: a file from the volume must not run as another user.
            mode: metadata.mode() & 0o777,
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns the time to wait until another change would be visible in the file's times.
    pub(super) fn unsettled_for(&self) -> Duration {
        let (seconds, nanos) = self.ctime;
        let nanos = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        match SystemTime::now().duration_since(time(nanos)) {
            Ok(age) => TICK.saturating_sub(age),
            // The file system's clock may be slightly ahead. If it is far ahead, the system clock was set back.
            Err(ahead) if ahead.duration() < TICK => TICK,
            Err(_) => Duration::ZERO,
        }
    }
}

impl Directory {
    /// Resolves the given paths. A directory inside another one is cached as part of the outer one.
    pub(super) fn all(given: &[PathBuf], volume: &Path) -> Result<Vec<Self>, CacheError> {
        let volume = fs::canonicalize(volume).map_err(CacheError::at(volume))?;
        let mut all: Vec<Self> = Vec::new();
        for directory in given {
            let refused = |problem| CacheError::Directory {
                directory: directory.clone(),
                problem,
            };
            let absolute = std::path::absolute(directory).map_err(CacheError::at(directory))?;
            if absolute.components().any(|part| part.as_os_str() == "..") {
                return Err(refused("the path contains `..`"));
            }
            let path = resolve(&absolute).map_err(CacheError::at(directory))?;
            if path.starts_with(&volume) || volume.starts_with(&path) {
                return Err(refused("the directory is on the volume, or contains it"));
            }
            let name = absolute.to_str();
            let name = name.ok_or_else(|| refused("the path is not UTF-8"))?;
            all.push(Self {
                name: name.trim_end_matches('/').to_owned(),
                path,
            });
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all.dedup_by(|inner, outer| inner.path.starts_with(&outer.path));
        Ok(all)
    }

    /// Lists the files and links of the directory.
    pub(super) fn walk(&self) -> Tree {
        let mut tree = Tree::default();
        let wanted = |entry: &DirEntry| {
            let name = entry.file_name().to_string_lossy();
            let end = Path::new(&*name).extension();
            let is_lock = name == ".lock" || end.is_some_and(|end| end == "lock");
            let is_lock = is_lock && entry.file_type().is_file();
            entry.depth() == 0 || !(is_lock || name.starts_with(STAGING))
        };
        let walk = WalkDir::new(&self.path).min_depth(1);
        for entry in walk.into_iter().filter_entry(wanted) {
            let added = entry
                .map_err(io::Error::from)
                .and_then(|entry| self.add(&entry, &mut tree));
            match added {
                // Removed meanwhile, or the directory does not exist yet.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    warn!(
                        directory = self.name,
                        %error,
                        "Could not read part of a cached directory; skipping that part."
                    );
                    tree.is_partial = true;
                }
                Ok(()) => {}
            }
        }
        tree
    }

    fn add(&self, entry: &DirEntry, tree: &mut Tree) -> io::Result<()> {
        let kind = entry.file_type();
        if kind.is_dir() {
            return Ok(());
        }
        let inner = entry.path().strip_prefix(&self.path).ok();
        let Some(inner) = inner.and_then(Path::to_str) else {
            let path = entry.path().display();
            debug!(%path, "Skipping a file whose name is not UTF-8.");
            return Ok(());
        };
        if kind.is_file() {
            let found = FileStat::of(&entry.metadata()?);
            tree.files.insert(inner.to_owned(), found);
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path())?;
            let inside = target.to_str().filter(|to| stays_inside(inner, to));
            if let Some(to) = inside {
                tree.links.insert(inner.to_owned(), to.to_owned());
            } else {
                let path = entry.path().display();
                debug!(%path, "Skipping a link that leads out of its directory.");
            }
        }
        Ok(())
    }

    /// Creates a folder for incomplete files, if `needed`. The folder is inside the directory itself, so that files can
    /// be moved to their paths by renaming. It is removed on drop.
    pub(super) fn staging(&self, needed: bool) -> Result<Staging, CacheError> {
        let failed = || CacheError::at(&self.path);
        self.clear_abandoned().map_err(failed())?;
        if !needed {
            return Ok(Staging(None));
        }
        fs::create_dir_all(&self.path).map_err(failed())?;
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix(STAGING).tempdir_in(&self.path);
        let folder = folder.map_err(failed())?;
        // Marks the folder as in use. The system releases the lock however the process ends.
        let lock = File::open(folder.path()).map_err(failed())?;
        lock.try_lock().map_err(io::Error::from).map_err(failed())?;
        Ok(Staging(Some((folder, lock))))
    }

    /// Removes the folders for incomplete files that killed processes left behind.
    fn clear_abandoned(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let is_staging = entry.file_name().to_string_lossy().starts_with(STAGING);
            if !is_staging || !entry.file_type()?.is_dir() {
                continue;
            }
            let Ok(folder) = File::open(entry.path()) else {
                continue;
            };
            if folder.try_lock().is_ok()
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                let path = entry.path();
                debug!(path = %path.display(), %error, "Could not remove an abandoned folder.");
            }
        }
        Ok(())
    }
}

/// A folder for incomplete files, and the lock that marks it as in use.
#[derive(Debug)]
pub(super) struct Staging(Option<(TempDir, File)>);

impl Staging {
    /// Returns the path of the file with this number.
    pub(super) fn file(&self, number: usize) -> PathBuf {
        let (folder, _) = self
            .0
            .as_ref()
            .expect("the staging folder exists if there are files to stage");
        folder.path().join(number.to_string())
    }
}

/// Resolves the links in the part of a path that exists.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(path), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == ErrorKind::NotFound => {
            Ok(resolve(parent)?.join(name))
        }
        (resolved, ..) => resolved,
    }
}

/// Sets the modification time and permissions of a file.
pub(super) fn set_metadata(file: &File, entry: &FileEntry) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(entry.mode & 0o777))?;
    file.set_times(FileTimes::new().set_modified(time(entry.mtime)))
}

fn time(nanos: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 {
        SystemTime::UNIX_EPOCH - distance
    } else {
        SystemTime::UNIX_EPOCH + distance
    }
}

/// Checks that folders below a directory are real folders and not links, so that nothing is written through a link.
/// Remembers the folders that it has checked.
#[derive(Debug)]
pub(super) struct RealFolders<'a> {
    top: &'a Path,
    known: HashSet<String>,
}

impl<'a> RealFolders<'a> {
    pub(super) fn below(top: &'a Path) -> Self {
        Self {
            top,
            known: HashSet::new(),
        }
    }

    /// Returns whether the parent folder of this file is a real folder, or can be created.
    pub(super) fn allow(&mut self, file: &str) -> io::Result<bool> {
        self.check(file, |_| Ok(()))
    }

    /// Creates the parent folder of this file if it does not exist, and returns whether it is a real folder.
    pub(super) fn make(&mut self, file: &str) -> io::Result<bool> {
        self.check(file, |folder| match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        })
    }

    fn check(&mut self, file: &str, missing: impl Fn(&Path) -> io::Result<()>) -> io::Result<bool> {
        let Some((folder, _)) = file.rsplit_once('/') else {
            return Ok(true);
        };
        if self.known.contains(folder) {
            return Ok(true);
        }
        let ends = folder.match_indices('/').map(|(end, _)| end);
        for end in ends.chain([folder.len()]) {
            let part = self.top.join(&folder[..end]);
            match fs::symlink_metadata(&part) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::NotFound => missing(&part)?,
                Err(error) => return Err(error),
            }
        }
        self.known.insert(folder.to_owned());
        Ok(true)
    }
}
