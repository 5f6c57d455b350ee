//! The handler's view of its job.

#[cfg(feature = "upload")]
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "upload")]
use std::sync::{Mutex, PoisonError};
#[cfg(feature = "upload")]
use std::time::Duration;

use podwork_protocol::limits;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
#[cfg(feature = "upload")]
use tokio_util::task::TaskTracker;
#[cfg(feature = "upload")]
use tracing::Instrument as _;
use tracing::{Span, warn};

#[cfg(feature = "download")]
use crate::config::DownloadLimits;
#[cfg(feature = "upload")]
use crate::config::UploadSettings;
use crate::delivery::outbox::Outbox;
use crate::handler::folder::Folder;
use crate::handler::json::to_raw_value;

/// The maximum time that a job waits at its end for the cleanup of cancelled uploads.
#[cfg(feature = "upload")]
const TIDYING: Duration = Duration::from_secs(15);

/// A handler's view of the job it runs. Use it as the type of a parameter. Clones refer to the same job.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

/// Omits the other fields that the platform sent: they may contain keys.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.0.id)
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

struct Inner {
    id: String,
    extra: Map<String, Value>,
    outbox: Arc<Outbox>,
    cancelled: CancellationToken,
    refresh: AtomicBool,
    span: Span,
    folder: Folder,
    #[cfg(feature = "download")]
    download_limits: DownloadLimits,
    #[cfg(feature = "upload")]
    uploads: Uploads,
}

/// The state that a job's uploads share.
#[cfg(feature = "upload")]
#[derive(Default)]
struct Uploads {
    settings: Arc<UploadSettings>,
    /// The names of uploads, and how often each was recorded. Never locked across an await.
    names: Mutex<HashMap<String, usize>>,
    /// The tasks that clean up after cancelled uploads.
    tidying: TaskTracker,
}

impl Context {
    pub(crate) fn new(
        id: String,
        extra: Map<String, Value>,
        outbox: Arc<Outbox>,
        cancelled: CancellationToken,
        span: Span,
    ) -> Self {
        Self(Arc::new(Inner {
            id,
            extra,
            outbox,
            cancelled,
            refresh: AtomicBool::new(false),
            span,
            folder: Folder::default(),
            #[cfg(feature = "download")]
            download_limits: DownloadLimits::default(),
            #[cfg(feature = "upload")]
            uploads: Uploads::default(),
        }))
    }

    /// Creates a context without a real job. Its progress is discarded.
    pub(crate) fn detached(id: String) -> Self {
        let outbox = Arc::new(Outbox::default());
        Self::new(
            id,
            Map::new(),
            outbox,
            CancellationToken::new(),
            Span::none(),
        )
    }

    /// Sets the limits of downloads. Must be called before the context is cloned.
    #[cfg(feature = "download")]
    pub(crate) fn with_download_limits(mut self, limits: DownloadLimits) -> Self {
        let inner = Arc::get_mut(&mut self.0).expect("the context has no clones yet");
        inner.download_limits = limits;
        self
    }

    /// Sets the destination of uploads. Must be called before the context is cloned.
    #[cfg(feature = "upload")]
    pub(crate) fn with_uploads(mut self, settings: Arc<UploadSettings>) -> Self {
        let inner = Arc::get_mut(&mut self.0).expect("the context has no clones yet");
        inner.uploads.settings = settings;
        self
    }

    /// Returns the job's id.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Reports progress to clients: `/status` shows it as the `output` of a job in progress.
    ///
    /// Any value that serializes as JSON is valid. [`percent`](Self::percent) reports a percentage.
    ///
    /// Returns at once. If updates arrive faster than they can be posted, only the latest is posted; none is posted
    /// after the job has ended. An update that cannot be serialized as JSON, or exceeds the size limit of a result, is
    /// dropped, and a warning is logged.
    pub fn progress(&self, progress: impl Serialize) {
        let limit = limits::result_payload(self.id());
        match to_raw_value(&progress) {
            Ok(progress) if progress.get().len() > limit => {
                let size = progress.get().len();
                warn!(
                    parent: &self.0.span,
                    size_bytes = size,
                    limit_bytes = limit,
                    "Dropping a progress update over the size limit."
                );
            }
            Ok(progress) => self.0.outbox.progress(progress),
            Err(error) => {
                warn!(parent: &self.0.span, %error, "Dropping a progress update that is not JSON.");
            }
        }
    }

    /// Reports how far the job is, in percent from 0 to 100, as `{"percent": …}`. Values outside this range are clamped.
    /// Otherwise like [`progress`](Self::progress).
    ///
    /// A bare number may be a fraction or a percentage: those who show it can only guess which. This cannot be
    /// misunderstood.
    ///
    /// ```
    /// use podwork::{Context, handler};
    ///
    /// #[handler]
    /// fn train(steps: u32, cx: Context) {
    ///     for step in 1..=steps {
    ///         cx.percent(100.0 * f64::from(step) / f64::from(steps));
    ///     }
    /// }
    /// ```
    pub fn percent(&self, percent: impl Into<f64>) {
        #[derive(Serialize)]
        struct Percent {
            percent: f64,
        }

        let percent = percent.into().clamp(0.0, 100.0);
        self.progress(Percent { percent });
    }

    /// Returns whether the job is cancelled: by a client, by its timeout or expiry, or because the worker shuts down.
    ///
    /// Blocking handlers should call this regularly. Asynchronous handlers are dropped at their next `.await`.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.is_cancelled()
    }

    /// Waits until the job is cancelled.
    pub async fn cancelled(&self) {
        self.0.cancelled.cancelled().await;
    }

    /// Asks the platform to replace this worker after the job: the result carries `stopPod`, and the worker shuts down
    /// after it has delivered the result.
    pub fn refresh_worker(&self) {
        self.0.refresh.store(true, Ordering::Relaxed);
    }

    /// Returns all fields of the job other than `id` and `input`, such as `webhook`, `policy` or `s3Config`.
    pub fn extra(&self) -> &Map<String, Value> {
        &self.0.extra
    }

    /// Returns the job's tracing span. Enter it where work leaves the handler's own task or thread.
    pub fn span(&self) -> &Span {
        &self.0.span
    }

    /// Returns the path of the job's own temporary folder. The folder is created on first use in the system's folder
    /// for temporary files (`TMPDIR`). Other users cannot read it.
    ///
    /// The folder and its content are removed when the handler has ended, with a result, an error, a panic, a
    /// cancellation or a timeout. Only a worker that is killed leaves the folder behind.
    ///
    /// ```
    /// use podwork::testing::TestJob;
    /// use podwork::{Context, Result, handler};
    /// use serde_json::json;
    ///
    /// #[handler]
    /// fn render(text: String, cx: Context) -> Result<String> {
    ///     let page = cx.folder()?.join("page.html");
    ///     std::fs::write(&page, text)?;
    ///     Ok(page.display().to_string())
    /// }
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let job = TestJob::new(json!("<p>Hello")).run::<render>().await;
    /// let page = job.result.unwrap();
    /// assert!(!std::path::Path::new(page.as_str().unwrap()).exists()); // the job has ended
    /// # });
    /// ```
    ///
    /// # Errors
    /// Returns an error if the folder cannot be created, or if the job has ended.
    pub fn folder(&self) -> std::io::Result<std::path::PathBuf> {
        self.0.folder.path()
    }

    /// Removes the job's folder.
    pub(crate) async fn remove_folder(&self) {
        self.0.folder.remove().await;
    }

    /// Runs blocking work on the job's files, on a blocking thread. The folder is not removed before the work has
    /// ended.
    #[cfg(feature = "download")]
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<T> {
        self.0.folder.blocking(work).await
    }

    /// Blocks until async work is done, or returns `stopped` if the job is cancelled first. Must be called on a
    /// blocking thread.
    #[cfg(any(feature = "download", feature = "upload"))]
    pub(crate) fn wait<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
        stopped: E,
    ) -> Result<T, E> {
        let runtime = tokio::runtime::Handle::current();
        let done = runtime.block_on(self.0.cancelled.run_until_cancelled(work));
        done.unwrap_or(Err(stopped))
    }

    /// Returns a token that is cancelled with the job, and can also be cancelled separately.
    #[cfg(feature = "download")]
    pub(crate) fn stop_token(&self) -> CancellationToken {
        self.0.cancelled.child_token()
    }

    #[cfg(feature = "download")]
    pub(crate) fn download_limits(&self) -> DownloadLimits {
        self.0.download_limits
    }

    #[cfg(feature = "upload")]
    pub(crate) fn upload_settings(&self) -> &UploadSettings {
        &self.0.uploads.settings
    }

    /// Records the name of an upload, and returns how often the job has recorded that name.
    #[cfg(feature = "upload")]
    pub(crate) fn count_upload(&self, name: &str) -> usize {
        let names = self.0.uploads.names.lock();
        let mut names = names.unwrap_or_else(PoisonError::into_inner);
        let count = names.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// Runs a cleanup task in the background. The end of the job waits for it.
    #[cfg(feature = "upload")]
    pub(crate) fn tidy(
        &self,
        runtime: &tokio::runtime::Handle,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let work = work.instrument(self.span().clone());
        self.0.uploads.tidying.spawn_on(work, runtime);
    }

    /// Waits for the cleanup tasks, up to a limit. They continue to run after it.
    #[cfg(feature = "upload")]
    pub(crate) async fn tidied(&self) {
        let tidying = &self.0.uploads.tidying;
        tidying.close();
        let _ = tokio::time::timeout(TIDYING, tidying.wait()).await;
    }

    pub(crate) fn wants_refresh(&self) -> bool {
        self.0.refresh.load(Ordering::Relaxed)
    }
}
