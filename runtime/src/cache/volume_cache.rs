//! The public type of the cache, with its settings and its state.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use podwork_protocol::env;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::given;
use crate::net::http::chain;
use crate::threads;

use super::hydrate;
use super::manifest::Roots;
use super::report::{CacheError, Hydrated, Synced};
use super::store::{BadObjects, CacheStore};
use super::sync::SyncRun;
use super::tree::Directory;

/// The path where the platform mounts a network volume.
const VOLUME: &str = "/runpod-volume";
/// Default size below which files are packed together, in bytes.
const SMALL_BELOW: u64 = 256 * 1024;
/// Maximum of [`VolumeCache::small_below`], in bytes: each such file is held in memory while it is packed.
const MAX_SMALL_BELOW: u64 = 64 * 1024 * 1024;
/// Default number of threads per core: they mostly wait for the volume.
const THREADS_PER_CORE: usize = 4;
/// Maximum of the default number of threads.
const MAX_DEFAULT_THREADS: usize = 32;
/// Default minimum time between two syncs that jobs trigger.
const INTERVAL: Duration = Duration::from_mins(5);

/// Local directories that are stored on a network volume, so that later workers start with their content.
///
/// With [`Worker::cache`](crate::Worker::cache), the worker hydrates before the set-up, and syncs after the set-up,
/// after jobs, and when it shuts down. Without a worker, call [`hydrate`](Self::hydrate) and [`sync`](Self::sync) in a
/// tokio runtime. They run on the runtime's threads for blocking work.
///
/// The cache never fails a worker. Without a volume it does nothing. The cache logs errors as warnings, and returns
/// them in its results.
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
/// std::fs::remove_dir_all(&directory)?; // a later worker starts without it
/// let cache = VolumeCache::new([&directory]).volume(volume.path()).name("captions");
/// assert_eq!(cache.hydrate().await.files, 1);
/// assert_eq!(std::fs::read(directory.join("kernel.bin"))?, b"compiled");
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
///
/// # Cached files
///
/// The cache keeps files with their permissions and their modification time, to the nanosecond, and relative symbolic
/// links that stay inside their directory. It skips `*.lock` files, other links, pipes, devices, empty folders, and
/// names that are not UTF-8. A file that changes while it is read is skipped until the next sync.
///
/// # Conflicts
///
/// - A local file is only replaced by a newer one.
/// - When a worker deletes a file that it has hydrated or synced, its next sync removes the file from the cache. The
///   file stays if another worker has changed it since, and comes back if another worker still has the file and syncs.
/// - Files that several workers add are all kept.
/// - When several workers change the same file, the version with the latest modification time is kept. If one worker
///   has a file and another has a folder at the same path, the last sync wins.
///
/// # Crash safety
///
/// Each sync with changes publishes a *generation*, which never changes: it writes the files first, and then a manifest
/// with a checksum of each file. A worker uses a generation only after reading and checking all files that it needs,
/// and moves only complete files to their paths. If the worker is killed meanwhile, the next hydrate copies the
/// remaining files. So no worker uses an incomplete file, no matter when workers are killed or how many sync at once.
/// If a generation is damaged, a hydrate uses the previous one, and the next sync repairs the damage. The last four
/// generations are kept.
#[derive(Debug, Clone)]
#[must_use = "nothing is copied until `hydrate` or `sync` is called"]
pub struct VolumeCache {
    settings: CacheSettings,
    shared: Arc<SharedState>,
}

#[derive(Debug, Clone)]
struct CacheSettings {
    directories: Vec<PathBuf>,
    volume: PathBuf,
    name: Option<String>,
    small_below: u64,
    threads: usize,
    interval: Duration,
}

/// The state that clones of a cache share.
#[derive(Debug, Default)]
struct SharedState {
    /// Locked while a hydrate or a sync runs.
    knowledge: Arc<Mutex<VolumeKnowledge>>,
    /// True while a background sync is waiting to start.
    queued: AtomicBool,
    /// True once the absence of a volume has been logged.
    absence_logged: AtomicBool,
}

/// A background sync that is waiting to start. Dropped when the sync starts or is cancelled.
struct QueuedSync(Arc<SharedState>);

impl Drop for QueuedSync {
    fn drop(&mut self) {
        self.0.queued.store(false, Ordering::Release);
    }
}

/// Facts about the volume from earlier calls.
#[derive(Debug, Default)]
struct VolumeKnowledge {
    /// The content that the directories last shared with the cache.
    base: Option<Roots>,
    bad: BadObjects,
}

/// Work on the volume that blocks its thread.
type BlockingWork<T> =
    fn(&CacheSettings, &mut VolumeKnowledge, &CancellationToken) -> Result<T, CacheError>;

impl VolumeCache {
    /// Creates a cache of these directories, which need not exist yet.
    pub fn new<P: Into<PathBuf>>(directories: impl IntoIterator<Item = P>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            settings: CacheSettings {
                directories: directories.into_iter().map(Into::into).collect(),
                volume: VOLUME.into(),
                name: None,
                small_below: SMALL_BELOW,
                threads: (cores * THREADS_PER_CORE).min(MAX_DEFAULT_THREADS),
                interval: INTERVAL,
            },
            shared: Arc::default(),
        }
    }

    /// Sets the mount point of the volume. Default: `/runpod-volume`.
    pub fn volume(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.volume = path.into();
        self
    }

    /// Sets the name of the cache, which must be a plain folder name. Workers with the same name share the cache.
    /// Default: the value of `RUNPOD_ENDPOINT_ID`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.settings.name = Some(name.into());
        self
    }

    /// Sets the size, in bytes, below which files are packed together. On a network volume, a small file takes about as
    /// long as a larger one. Default: 256 KiB. Maximum: 64 MiB.
    pub fn small_below(mut self, bytes: u64) -> Self {
        self.settings.small_below = bytes.min(MAX_SMALL_BELOW);
        self
    }

    /// Sets the number of files to read or write in parallel. 0 counts as 1. Default: 4 per core, at most 32.
    pub fn parallel(mut self, threads: usize) -> Self {
        self.settings.threads = threads.max(1);
        self
    }

    /// Sets the minimum time between two syncs that the jobs of a [worker](crate::Worker::cache) trigger. Default: 5
    /// minutes.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval;
        self
    }

    pub(crate) fn least_interval(&self) -> Duration {
        self.settings.interval
    }

    /// Sets the name if the cache has no name yet.
    pub(crate) fn or_name(mut self, name: Option<String>) -> Self {
        self.settings.name = self.settings.name.or(name);
        self
    }

    /// Copies missing files from the latest generation on the volume to the directories.
    ///
    /// # Panics
    /// Panics if called outside a tokio runtime.
    pub async fn hydrate(&self) -> Hydrated {
        let start = Instant::now();
        let hydrated = self.blocking(|| {}, CacheSettings::hydrate).await;
        let hydrated = hydrated.unwrap_or_else(|error| Hydrated {
            problem: Some(error),
            ..Hydrated::default()
        });
        if let Some(generation) = hydrated.generation {
            info!(
                generation,
                files = hydrated.files,
                bytes = hydrated.bytes,
                kept = hydrated.kept,
                elapsed_ms = elapsed_ms(start),
                "Cache hydrated from the volume."
            );
        }
        self.log_problem("Could not hydrate the cache.", hydrated.problem.as_ref());
        hydrated
    }

    /// Copies new files from the directories to the volume, as its next generation. Writes nothing if nothing has
    /// changed.
    ///
    /// # Panics
    /// Panics if called outside a tokio runtime.
    pub async fn sync(&self) -> Synced {
        self.sync_after(|| {}).await
    }

    async fn sync_after(&self, on_start: impl FnOnce() + Send) -> Synced {
        let start = Instant::now();
        let synced = self.blocking(on_start, CacheSettings::sync).await;
        let synced = synced.unwrap_or_else(|error| Synced {
            problem: Some(error),
            ..Synced::default()
        });
        if synced.files + synced.removed > 0 {
            info!(
                generation = synced.generation,
                files = synced.files,
                bytes = synced.bytes,
                unchanged = synced.unchanged,
                removed = synced.removed,
                unsettled = synced.unsettled,
                elapsed_ms = elapsed_ms(start),
                "Cache synced to the volume."
            );
        }
        self.log_problem("Could not sync the cache.", synced.problem.as_ref());
        synced
    }

    /// Starts a [`sync`](Self::sync) without waiting for it. At most one sync runs and one waits; further calls do
    /// nothing.
    ///
    /// # Panics
    /// Panics if called outside a tokio runtime.
    pub fn sync_in_background(&self) {
        if self.shared.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let (cache, queued) = (self.clone(), QueuedSync(Arc::clone(&self.shared)));
        tokio::spawn(async move { cache.sync_after(|| drop(queued)).await });
    }

    /// Logs the error, if any. Logs the absence of a volume or a name only once, and not as a warning.
    fn log_problem(&self, failed: &str, problem: Option<&CacheError>) {
        let Some(problem) = problem else { return };
        let error = chain(problem);
        if !problem.is_absence() {
            warn!(%error, "{failed}");
        } else if !self.shared.absence_logged.swap(true, Ordering::Relaxed) {
            info!(reason = %error, "Caching is off.");
        }
    }

    /// Runs `work` on a thread for blocking work, one call at a time. Cancels it if the caller stops waiting.
    async fn blocking<T: Send + 'static>(
        &self,
        on_start: impl FnOnce() + Send,
        work: BlockingWork<T>,
    ) -> Result<T, CacheError> {
        let knowledge = Arc::clone(&self.shared.knowledge);
        let mut knowledge: OwnedMutexGuard<_> = knowledge.lock_owned().await;
        on_start();
        let settings = self.settings.clone();
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let guarded = move || {
            let working = AssertUnwindSafe(|| work(&settings, &mut knowledge, &stop));
            catch_unwind(working).unwrap_or(Err(CacheError::Panicked))
        };
        let worked = threads::blocking(guarded).await;
        worked.unwrap_or_else(|error| Err(CacheError::Thread(error.into())))
    }
}

fn elapsed_ms(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl CacheSettings {
    fn open(&self) -> Result<(CacheStore, Vec<Directory>), CacheError> {
        let from_environment = || given(|name| std::env::var(name).ok(), env::ENDPOINT_ID);
        let name = self.name.clone().or_else(from_environment);
        let store = CacheStore::open(&self.volume, &name.ok_or(CacheError::NoName)?)?;
        let directories = Directory::all(&self.directories, &self.volume)?;
        Ok((store, directories))
    }

    fn hydrate(
        &self,
        knowledge: &mut VolumeKnowledge,
        stop: &CancellationToken,
    ) -> Result<Hydrated, CacheError> {
        let (store, directories) = self.open()?;
        let bad = &mut knowledge.bad;
        let (hydrated, base) = hydrate::hydrate(&store, &directories, self.threads, bad, stop)?;
        knowledge.base = base;
        Ok(hydrated)
    }

    fn sync(
        &self,
        knowledge: &mut VolumeKnowledge,
        stop: &CancellationToken,
    ) -> Result<Synced, CacheError> {
        let (store, directories) = self.open()?;
        let sync = SyncRun {
            store: &store,
            directories: &directories,
            small_below: self.small_below,
            threads: self.threads,
            base: knowledge.base.as_ref(),
            bad: &knowledge.bad,
            stop,
        };
        let (synced, base) = sync.run()?;
        // No later generation refers to bad objects.
        knowledge.bad = BadObjects::default();
        knowledge.base = Some(base);
        Ok(synced)
    }
}
