//! File operations that a network volume may not support, or that must not follow links.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps, UTIME_NOW, utimensat};
use rustix::io::Errno;
use tracing::debug;

/// Returns the entries of a folder, or an empty list if the folder does not exist.
pub(super) fn list(folder: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Opens a file for reading. Fails if `path` is a symbolic link. Does not block on a pipe that nobody writes to.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// Creates a file with this content and flushes it to disk. Fails if the file exists.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Flushes the entries of a folder to disk, if the volume supports that.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if !is_unsupported(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Gives a file a second name. Returns `false` if another file already has that name. Renames the file if the volume
/// does not support hard links.
pub(super) fn link(file: &Path, name: &Path) -> io::Result<bool> {
    match fs::hard_link(file, name) {
        Ok(()) => Ok(true),
        // A network volume may repeat a call that succeeded, and then report the result of the second call.
        Err(_) if fs::symlink_metadata(file)?.nlink() > 1 => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        // Without hard links, the later of two simultaneous calls wins.
        Err(error) if is_unsupported(&error) => {
            let is_free = !name.try_exists()?;
            if is_free {
                fs::rename(file, name)?;
            }
            Ok(is_free)
        }
        Err(error) => Err(error),
    }
}

/// Returns the current time by the clock of the volume that contains `folder`, or `None` if the folder does not exist.
/// Also works on a full volume.
pub(super) fn volume_time(folder: &Path) -> io::Result<Option<SystemTime>> {
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

/// Removes a file. Logs a failure instead of returning it.
pub(super) fn remove(path: &Path) {
    log_failed_removal(path, fs::remove_file(path));
}

/// Removes a folder and everything in it. Logs a failure instead of returning it.
pub(super) fn remove_all(path: &Path) {
    log_failed_removal(path, fs::remove_dir_all(path));
}

fn log_failed_removal(path: &Path, removed: io::Result<()>) {
    if let Err(error) = removed
        && error.kind() != ErrorKind::NotFound
    {
        debug!(path = %path.display(), %error, "Could not remove a file of the cache.");
    }
}

/// Returns whether the error means that the path does not exist.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Returns whether the error means that only this file is unreadable (`EIO`), and not the whole volume.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// Returns whether [`open`] failed because the path is a symbolic link.
pub(super) fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unsupported | ErrorKind::InvalidInput | ErrorKind::PermissionDenied
    )
}
