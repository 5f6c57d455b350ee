//! The results and errors of the cache.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of [`hydrate`](super::VolumeCache::hydrate).
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use podwork::cache::{CacheError, VolumeCache};
///
/// let cache = VolumeCache::new(["/root/.cache/torch"]).name("captions").volume("/not/there");
/// let hydrated = cache.hydrate().await;
/// assert_eq!((hydrated.files, hydrated.bytes), (0, 0));
/// assert!(matches!(hydrated.problem, Some(CacheError::NoVolume { .. })));
/// # });
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Hydrated {
    /// Number of files and links copied from the volume.
    pub files: u64,
    /// Size of these files, in bytes.
    pub bytes: u64,
    /// Number of files that were not copied, because the local file is the same or newer, or because something else,
    /// such as a link, is at the file's path.
    pub kept: u64,
    /// The generation of the cache that was used. `None` if nothing was ever synced, or if no generation is usable.
    pub generation: Option<u64>,
    /// The error, if any. If `generation` is set, the reason why a newer generation was not used.
    pub problem: Option<CacheError>,
}

/// The result of [`sync`](super::VolumeCache::sync).
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Synced {
    /// Number of files written to the volume.
    pub files: u64,
    /// Size of these files, in bytes.
    pub bytes: u64,
    /// Number of local files that were already on the volume.
    pub unchanged: u64,
    /// Number of files removed from the cache because they were deleted locally.
    pub removed: u64,
    /// Number of files that changed while they were read, or could not be read. The cache keeps the earlier version of
    /// such a file, if any, until the next sync.
    pub unsettled: u64,
    /// The generation of the cache that contains these files.
    pub generation: Option<u64>,
    /// The error, if any. Earlier generations are not affected.
    pub problem: Option<CacheError>,
}

/// The reason why a hydrate or a sync failed, or was incomplete.
///
/// An error of the cache never fails a worker: the cache logs it, and returns it in [`Hydrated`] and [`Synced`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// No volume is attached.
    #[error(
        "no network volume at {}: attach one to the endpoint, or set its path with VolumeCache::volume",
        .volume.display()
    )]
    NoVolume {
        /// The expected mount point.
        volume: PathBuf,
    },

    /// The cache has no name.
    #[error("the cache has no name: set RUNPOD_ENDPOINT_ID or call VolumeCache::name")]
    NoName,

    /// The name of the cache is invalid.
    #[error(
        "invalid cache name `{name}`: expected a folder name of at most 200 bytes, without `/` and `\\`, that does not \
         start with a dot"
    )]
    Name {
        /// The invalid name.
        name: String,
    },

    /// A directory cannot be cached.
    #[error("cannot cache {}: {problem}", .directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The reason.
        problem: &'static str,
    },

    /// A file on the volume is damaged.
    #[error("{} is damaged: {problem}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The kind of damage.
        problem: String,
    },

    /// A file on the volume was written by a newer version of podwork.
    #[error(
        "{} has format {format}, which needs a newer podwork: update this worker, or set another cache name",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format version.
        format: u32,
    },

    /// A file or folder cannot be read or written.
    #[error("cannot access {}", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// Other workers published a generation first at every attempt.
    #[error("cannot publish a generation: another worker was first in all {tries} attempts")]
    Busy {
        /// Number of attempts.
        tries: usize,
    },

    /// The caller stopped waiting before the hydrate or sync was complete.
    #[error("cancelled before completion")]
    Stopped,

    /// There is no thread to work on.
    #[error("the cache has no thread to work on")]
    Thread(#[source] io::Error),

    /// The cache panicked, which is a bug in this crate.
    #[error("the cache panicked: please report this bug in podwork")]
    Panicked,
}

impl CacheError {
    /// Returns a function that adds `path` to an I/O error.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }

    /// Returns whether the cache has no volume or no name, which is normal outside the platform.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::NoVolume { .. } | Self::NoName)
    }
}

impl fmt::Display for Hydrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            files, bytes, kept, ..
        } = self;
        write!(f, "copied {files} file(s) ({bytes} bytes), kept {kept}")
    }
}

impl fmt::Display for Synced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            files,
            bytes,
            unchanged,
            removed,
            unsettled,
            ..
        } = self;
        write!(
            f,
            "wrote {files} file(s) ({bytes} bytes), {unchanged} unchanged, {removed} removed, {unsettled} unsettled"
        )
    }
}
