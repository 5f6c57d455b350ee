//! What a handler may know of its job, and tell about it.

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

/// How long a job that has ended waits until uploads it gave up are tidied up.
#[cfg(feature = "upload")]
const TIDYING: Duration = Duration::from_secs(15);

/// A handler's view of the job it runs. Ask for it with a parameter of this type; clones are the same job.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

/// Without what else the platform sent: there may be keys in it.
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

/// What a job's uploads have in common.
#[cfg(feature = "upload")]
#[derive(Default)]
struct Uploads {
    settings: Arc<UploadSettings>,
    /// Names, and how often each was told. Never held across an await.
    names: Mutex<HashMap<String, usize>>,
    /// What tidies up after those that were given up.
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

    /// Of no real job: nobody hears what it is told.
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

    /// The same, with other limits; to be told before there are clones.
    #[cfg(feature = "download")]
    pub(crate) fn with_download_limits(mut self, limits: DownloadLimits) -> Self {
        let inner = Arc::get_mut(&mut self.0).expect("there is no clone yet");
        inner.download_limits = limits;
        self
    }

    /// The same, with uploads to go elsewhere; to be told before there are clones.
    #[cfg(feature = "upload")]
    pub(crate) fn with_uploads(mut self, settings: Arc<UploadSettings>) -> Self {
        let inner = Arc::get_mut(&mut self.0).expect("there is no clone yet");
        inner.uploads.settings = settings;
        self
    }

    /// The job's id.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Tells clients how far the job is: `/status` shows it as the `output` of a job in progress.
    ///
    /// Returns at once. When updates come faster than the network takes them, the latest wins; none comes after the
    /// job's end. One that cannot be written as JSON, or is over the limit of a result, is logged and left out.
    pub fn progress(&self, progress: impl Serialize) {
        let limit = limits::result_payload(self.id());
        match to_raw_value(&progress) {
            Ok(progress) if progress.get().len() > limit => {
                let size = progress.get().len();
                warn!(parent: &self.0.span, "a progress update of {size} bytes was left out: {limit} is the limit");
            }
            Ok(progress) => self.0.outbox.progress(progress),
            Err(error) => {
                warn!(parent: &self.0.span, "a progress update is no JSON and was left out: {error}");
            }
        }
    }

    /// Whether the job is to stop: it was cancelled, timed out or expired, or its worker has to end. Blocking handlers
    /// ask this from time to time; asynchronous ones are simply dropped at their next `.await`.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.is_cancelled()
    }

    /// Waits until the job is to stop.
    pub async fn cancelled(&self) {
        self.0.cancelled.cancelled().await;
    }

    /// Asks the platform to replace this worker once the job is done: the result carries `stopPod`, and the worker
    /// ends after it is delivered.
    pub fn refresh_worker(&self) {
        self.0.refresh.store(true, Ordering::Relaxed);
    }

    /// All that the platform sent beside `id` and `input`, such as `webhook`, `policy` or `s3Config`.
    pub fn extra(&self) -> &Map<String, Value> {
        &self.0.extra
    }

    /// The job's tracing span, to be entered where work leaves the handler's own task or thread.
    pub fn span(&self) -> &Span {
        &self.0.span
    }

    /// The job's own folder, for what it keeps on disk while it runs. It is made when it is first asked for, readable
    /// by nobody else, in the system's folder for temporary files (`TMPDIR`).
    ///
    /// It is removed with all that is in it once the handler has ended, in whatever way: a result, an error, a panic, a
    /// stop, a timeout. Only a worker that is killed leaves it behind.
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
    /// It cannot be made, or the job has ended.
    pub fn folder(&self) -> std::io::Result<std::path::PathBuf> {
        self.0.folder.path()
    }

    /// Removes the job's folder.
    pub(crate) async fn remove_folder(&self) {
        self.0.folder.remove().await;
    }

    /// Runs what blocks on the job's files, on a thread that may. The folder stays until it has ended.
    #[cfg(feature = "download")]
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<T> {
        self.0.folder.blocking(work).await
    }

    /// Waits for what is async, on a thread that may block; `stopped`: the job is to stop first.
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

    /// A token that is cancelled with the job, and by itself.
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

    /// How often the job's uploads were told this name, with this time.
    #[cfg(feature = "upload")]
    pub(crate) fn count_upload(&self, name: &str) -> usize {
        let names = self.0.uploads.names.lock();
        let mut names = names.unwrap_or_else(PoisonError::into_inner);
        let count = names.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// Has something tidied up that the job would leave behind.
    #[cfg(feature = "upload")]
    pub(crate) fn tidy(
        &self,
        runtime: &tokio::runtime::Handle,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let work = work.instrument(self.span().clone());
        self.0.uploads.tidying.spawn_on(work, runtime);
    }

    /// Waits until all is tidy, if that does not take too long. It goes on in any case.
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
