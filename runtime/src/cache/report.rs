//! Results and errors of the cache.

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
    /// Number of files that were not copied: the local file is the same or newer, or something else, such as a link, has
    /// its path.
    pub kept: u64,
    /// The generation of the cache that was used. `None` if nothing was ever synced, or no generation is usable.
    pub generation: Option<u64>,
    /// The error, if any. Beside a generation: the reason why a later generation was not used.
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
    /// Number of local files that the volume had already.
    pub unchanged: u64,
    /// Number of files removed from the cache because they were deleted here.
    pub removed: u64,
    /// Number of files that changed while they were read, or could not be read. The cache keeps its earlier version, if
    /// it has one, until the next sync.
    pub unsettled: u64,
    /// The generation of the cache that holds these files.
    pub generation: Option<u64>,
    /// The error, if any. Earlier generations are not affected.
    pub problem: Option<CacheError>,
}

/// The reason why a hydrate or a sync did less than it should.
///
/// It never fails a worker: it is logged, and returned in [`Hydrated`] and [`Synced`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// No volume is attached.
    #[error(
        "no network volume at {}: attach one to the endpoint, or set its path by VolumeCache::volume", .volume.display()
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
        "invalid cache name `{name}`: expected the name of a folder, without `/` and `\\`, not starting with a dot, of at \
         most 200 bytes"
    )]
    Name {
        /// The name.
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

    /// A file on the volume is not what was written.
    #[error("{} is damaged: {problem}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The difference.
        problem: String,
    },

    /// A file on the volume was written by a later version.
    #[error(
        "{} has format {format}, written by a later podwork: update this worker, or give its cache another name",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format's number.
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

    /// Other workers published a generation first, again and again.
    #[error(
        "gave up after {tries} attempts: each time another worker published a generation first"
    )]
    Busy {
        /// Number of attempts.
        tries: usize,
    },

    /// The caller stopped waiting before the work was complete.
    #[error("cancelled before it was complete")]
    Stopped,

    /// The cache panicked, which is a defect of this crate.
    #[error("the cache panicked: please report this as a bug of podwork")]
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

    /// Returns whether no cache is set up here, which is normal outside the platform.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::NoVolume { .. } | Self::NoName)
    }
}

impl fmt::Display for Hydrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            files, bytes, kept, ..
        } = self;
        write!(f, "{files} file(s) of {bytes} bytes copied, {kept} kept")
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
            "{files} file(s) of {bytes} bytes written, {unchanged} unchanged, {removed} removed, {unsettled} unsettled"
        )
    }
}
