//! File operations that a network volume may not support, or that must not follow links.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps, UTIME_NOW, utimensat};
use rustix::io::Errno;
use tracing::debug;

/// Returns the entries of a folder; none, if the folder does not exist.
pub(super) fn list(folder: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Opens a file for reading. Fails if it is a link, and does not wait for the other end of a pipe.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// Writes a file that must not exist yet, through to the disk.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes a folder's entries through to the disk, where the volume supports that.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if !is_unsupported(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Gives a file a second name. Returns `false` if another file has that name.
pub(super) fn link(file: &Path, name: &Path) -> io::Result<bool> {
    match fs::hard_link(file, name) {
        Ok(()) => Ok(true),
        // A network volume may repeat a call that succeeded, and report the second result.
        Err(_) if fs::symlink_metadata(file)?.nlink() > 1 => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        // Without links, the later of two simultaneous calls wins.
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

/// Returns the present time by the clock of the volume that a folder is on; `None` if the folder does not exist. Works on
/// a full volume as well.
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

/// Removes a file, if it can be.
pub(super) fn remove(path: &Path) {
    log_failed_removal(path, fs::remove_file(path));
}

/// Removes a folder and everything in it, if it can be.
pub(super) fn remove_all(path: &Path) {
    log_failed_removal(path, fs::remove_dir_all(path));
}

fn log_failed_removal(path: &Path, removed: io::Result<()>) {
    if let Err(error) = removed
        && error.kind() != ErrorKind::NotFound
    {
        debug!(path = %path.display(), %error, "Could not remove a file of the cache");
    }
}

/// Returns whether the error means that the path does not exist.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Returns whether the error means that the file itself is unreadable, and not the whole volume.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

/// Returns whether [`open`] failed because the path is a link.
pub(super) fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unsupported | ErrorKind::InvalidInput | ErrorKind::PermissionDenied
    )
}
