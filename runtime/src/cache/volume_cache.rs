//! The face of the cache.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use podwork_protocol::env;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::given;

use super::hydrate;
use super::manifest::Root;
use super::report::{CacheError, Hydrated, Synced};
use super::store::{Bad, Store};
use super::sync::Sync;
use super::tree::Directory;

/// Where the platform mounts a network volume.
const VOLUME: &str = "/runpod-volume";
/// Files of fewer bytes are packed together.
const SMALL_BELOW: u64 = 256 * 1024;
/// Most threads unless it is set: they wait for the volume more than they compute.
const MOST_THREADS: usize = 32;
/// How long after one sync a job may bring about the next.
const INTERVAL: Duration = Duration::from_mins(5);

/// Directories that are warm when a worker starts: kept on a network volume, and brought from there.
///
/// [`Worker::cache`](crate::Worker::cache) does all of it: it hydrates before the set-up, and syncs after it, after jobs
/// and when the worker ends. Elsewhere, call [`hydrate`](Self::hydrate) and [`sync`](Self::sync) yourself, in a tokio
/// runtime; their work goes on on threads for blocking work.
///
/// Nothing of it fails a worker. Where there is no volume, nothing is done. What goes wrong is warned about in the log, and
/// is in what the calls return.
///
/// ```
/// # let volume = tempfile::tempdir().unwrap();
/// # let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
/// # let directory = first.path().join("kernels");
/// # std::fs::create_dir(&directory).unwrap();
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use podwork::cache::VolumeCache;
///
/// let cache = VolumeCache::new([&directory]).volume(volume.path()).name("captions");
/// assert_eq!(cache.hydrate().await.files, 0); // nothing yet
///
/// std::fs::write(directory.join("kernel.bin"), "compiled")?;
/// assert_eq!(cache.sync().await.files, 1);
///
/// std::fs::remove_dir_all(&directory)?; // a later worker has none of it
/// let cache = VolumeCache::new([&directory]).volume(volume.path()).name("captions");
/// assert_eq!(cache.hydrate().await.files, 1);
/// assert_eq!(std::fs::read(directory.join("kernel.bin"))?, b"compiled");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # What is kept
///
/// Files with their permissions and their time of change to the nanosecond, and relative symbolic links that stay inside
/// their directory. Not: files called `*.lock`, links that lead elsewhere, pipes and devices, empty folders, names that are not
/// UTF-8. A file that changes while it is read waits for the next sync.
///
/// A file that is there is only replaced by a later one. A file goes from the cache when it is deleted by a worker that
/// had it from there, or brought it, unless another has changed it since, or has it still and syncs; what other workers bring
/// meanwhile is added to. When several change the same file, the one with the latest time is kept; where one has a file and
/// another a folder, the one that syncs last.
///
/// # What it withstands
///
/// Each sync with anything new makes a generation, which never changes: first its bytes, then a manifest with a checksum of
/// each file. A worker uses none of a generation before all of it has been read and checked, and only whole files; if it is
/// killed while it puts them in place, the next hydrate brings the rest. So nothing that was torn is used, wherever a
/// worker was killed, and however many sync at once. A damaged generation gives way to the one before, and is mended by
/// the next sync. The last four are kept.
#[derive(Debug, Clone)]
#[must_use = "nothing is brought before `hydrate`, and nothing kept before `sync`"]
pub struct VolumeCache {
    settings: Settings,
    shared: Arc<Shared>,
}

#[derive(Debug, Clone)]
struct Settings {
    directories: Vec<PathBuf>,
    volume: PathBuf,
    name: Option<String>,
    small_below: u64,
    threads: usize,
    interval: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    /// Held by what is at work.
    known: Arc<Mutex<Known>>,
    /// A sync in the background is yet to begin.
    queued: AtomicBool,
    /// It was told that there is no volume.
    told: AtomicBool,
}

/// A sync that is yet to begin: not any more, once this is dropped.
struct Queued(Arc<Shared>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.queued.store(false, Ordering::Release);
    }
}

/// What is known of the volume from before.
#[derive(Debug, Default)]
struct Known {
    /// What the directories held of the cache.
    base: Option<BTreeMap<String, Root>>,
    bad: Bad,
}

impl VolumeCache {
    /// A cache of these directories. They need not be there.
    pub fn new<P: Into<PathBuf>>(directories: impl IntoIterator<Item = P>) -> Self {
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            settings: Settings {
                directories: directories.into_iter().map(Into::into).collect(),
                volume: VOLUME.into(),
                name: None,
                small_below: SMALL_BELOW,
                threads: (at_once * 4).min(MOST_THREADS),
                interval: INTERVAL,
            },
            shared: Arc::default(),
        }
    }

    /// Where the volume is; `/runpod-volume` unless it is set.
    pub fn volume(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.volume = path.into();
        self
    }

    /// What tells this cache from others on the volume, a plain name; `RUNPOD_ENDPOINT_ID` unless it is set. Workers with
    /// the same name share the cache.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Files of fewer bytes are packed together, since a network volume takes about as long for a short file as for a
    /// long one; 256 KiB unless it is set.
    pub fn small_below(mut self, bytes: u64) -> Self {
        // Each is held in memory while it is packed.
        self.settings.small_below = bytes.min(64 * 1024 * 1024);
        self
    }

    /// How many files are read or written at once; four for each core, and 32 at most, unless it is set. 0 counts as 1.
    pub fn parallel(mut self, threads: usize) -> Self {
        self.settings.threads = threads.max(1);
        self
    }

    /// How long a [worker](crate::Worker::cache) leaves at least between a sync and the next that a job brings about; 5
    /// minutes unless it is set.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval;
        self
    }

    pub(crate) fn least_interval(&self) -> Duration {
        self.settings.interval
    }

    /// The name where none was given.
    pub(crate) fn or_name(mut self, name: Option<String>) -> Self {
        self.settings.name = self.settings.name.or(name);
        self
    }

    /// Brings what is missing in the directories, from the latest generation on the volume.
    ///
    /// # Panics
    /// It is called outside a tokio runtime.
    pub async fn hydrate(&self) -> Hydrated {
        let began = Instant::now();
        let hydrated = self.blocking(Settings::hydrate).await;
        let hydrated = hydrated.unwrap_or_else(|error| Hydrated {
            problem: Some(error),
            ..Hydrated::default()
        });
        if hydrated.generation.is_some() {
            info!("Cache: {hydrated}, in {:?}.", began.elapsed());
        }
        self.tell("hydrated", hydrated.problem.as_ref());
        hydrated
    }

    /// Takes what is new in the directories to the volume, as its next generation; if nothing is, none is made.
    ///
    /// # Panics
    /// It is called outside a tokio runtime.
    pub async fn sync(&self) -> Synced {
        self.sync_after(|| {}).await
    }

    async fn sync_after(&self, on_start: impl FnOnce() + Send) -> Synced {
        let began = Instant::now();
        let synced = self.blocking_after(on_start, Settings::sync).await;
        let synced = synced.unwrap_or_else(|error| Synced {
            problem: Some(error),
            ..Synced::default()
        });
        if synced.files + synced.removed > 0 {
            info!("Cache: {synced}, in {:?}.", began.elapsed());
        }
        self.tell("synced", synced.problem.as_ref());
        synced
    }

    /// The same, without waiting for it. At most one runs and one waits: then this one is not needed.
    ///
    /// # Panics
    /// It is called outside a tokio runtime.
    pub fn sync_in_background(&self) {
        if self.shared.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let (cache, queued) = (self.clone(), Queued(Arc::clone(&self.shared)));
        tokio::spawn(async move { cache.sync_after(|| drop(queued)).await });
    }

    /// Warns of a problem, if there is one; of an absence it tells once.
    fn tell(&self, done: &str, problem: Option<&CacheError>) {
        let Some(problem) = problem else { return };
        if !problem.is_absence() {
            warn!("the cache was not {done} as it should be: {problem}");
        } else if !self.shared.told.swap(true, Ordering::Relaxed) {
            info!("Nothing is cached: {problem}.");
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: fn(&Settings, &mut Known, &CancellationToken) -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        self.blocking_after(|| {}, work).await
    }

    /// Runs it on a thread that may block, one at a time; told to stop when the caller waits no longer.
    async fn blocking_after<T: Send + 'static>(
        &self,
        on_start: impl FnOnce() + Send,
        work: fn(&Settings, &mut Known, &CancellationToken) -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        let mut known: OwnedMutexGuard<Known> = Arc::clone(&self.shared.known).lock_owned().await;
        on_start();
        let settings = self.settings.clone();
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let working = tokio::task::spawn_blocking(move || work(&settings, &mut known, &stop));
        working.await.unwrap_or(Err(CacheError::Panicked))
    }
}

impl Settings {
    fn open(&self) -> Result<(Store, Vec<Directory>), CacheError> {
        let from_environment = || given(|name| std::env::var(name).ok(), env::ENDPOINT_ID);
        let name = self.name.clone().or_else(from_environment);
        let store = Store::open(&self.volume, &name.ok_or(CacheError::NoName)?)?;
        let directories = Directory::all(&self.directories, &self.volume)?;
        Ok((store, directories))
    }

    fn hydrate(&self, known: &mut Known, stop: &CancellationToken) -> Result<Hydrated, CacheError> {
        let (store, directories) = self.open()?;
        let bad = &mut known.bad;
        let (hydrated, held) = hydrate::hydrate(&store, &directories, self.threads, bad, stop)?;
        known.base = held;
        Ok(hydrated)
    }

    fn sync(&self, known: &mut Known, stop: &CancellationToken) -> Result<Synced, CacheError> {
        let (store, directories) = self.open()?;
        let sync = Sync {
            store: &store,
            directories: &directories,
            small_below: self.small_below,
            threads: self.threads,
            base: known.base.as_ref(),
            bad: &known.bad,
            stop,
        };
        let (synced, held) = sync.run()?;
        // No later generation refers to them.
        known.bad = Bad::default();
        known.base = Some(held);
        Ok(synced)
    }
}
