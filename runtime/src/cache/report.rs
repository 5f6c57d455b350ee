//! What came of it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What [`hydrate`](super::VolumeCache::hydrate) did.
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
    /// Files that were brought.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were there already, the same or changed since, and were left as they are; and those in whose way
    /// something else was, such as a link.
    pub kept: u64,
    /// Which generation of the cache this is; `None` where nothing was ever synced, or can be used.
    pub generation: Option<u64>,
    /// What went wrong; with a generation beside it: what is wrong with a later one.
    pub problem: Option<CacheError>,
}

/// What [`sync`](super::VolumeCache::sync) did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Synced {
    /// Files that were written to the volume.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Local files that were there already.
    pub unchanged: u64,
    /// Files that are no longer in the cache, since they were deleted here.
    pub removed: u64,
    /// Files that changed while they were read, or could not be read: those stay as they were, or out, until the next
    /// time.
    pub unsettled: u64,
    /// Which generation of the cache holds these files.
    pub generation: Option<u64>,
    /// What went wrong. What was in the cache before is not lost by it.
    pub problem: Option<CacheError>,
}

/// Why the cache does less than it should. It never fails a worker; it is told in the log and by the calls' results.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// No volume is attached.
    #[error("there is no network volume at {}", .volume.display())]
    NoVolume {
        /// Where it should be.
        volume: PathBuf,
    },

    /// The cache has no name.
    #[error("RUNPOD_ENDPOINT_ID is not set, and the cache was given no other name")]
    NoName,

    /// The cache's name is none.
    #[error("`{name}` cannot be a cache's name: that is one name of a folder")]
    Name {
        /// The name.
        name: String,
    },

    /// A directory cannot be cached.
    #[error("{} cannot be cached: {problem}", .directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        problem: &'static str,
    },

    /// What is on the volume is not as it was written.
    #[error("{} is damaged: {problem}", .path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// What is on the volume was written by a later version.
    #[error("{} was written by a later podwork: its format is {format}", .path.display())]
    Newer {
        /// Where.
        path: PathBuf,
        /// The format's number.
        format: u32,
    },

    /// A file or folder cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// Other workers synced at the same time, again and again.
    #[error("other workers synced at the same time, {tries} times in a row")]
    Busy {
        /// How often.
        tries: usize,
    },

    /// It was told to stop before it was done.
    #[error("it was told to stop")]
    Stopped,

    /// It broke down, which is a defect of this crate.
    #[error("it broke down")]
    Panicked,
}

impl CacheError {
    /// An error at this path.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }

    /// Where there is no cache to speak of, which is no trouble at home.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::NoVolume { .. } | Self::NoName)
    }
}

impl fmt::Display for Hydrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            files, bytes, kept, ..
        } = self;
        write!(f, "{files} file(s) of {bytes} bytes brought, {kept} kept")
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
