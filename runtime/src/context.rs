//! What a handler may know of its job, and tell about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use podwork_protocol::limits;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tracing::{Span, warn};

#[cfg(feature = "download")]
use crate::config::DownloadLimits;
#[cfg(feature = "folder")]
use crate::folder::Folder;
use crate::outbox::Outbox;
use crate::strict::to_raw_value;

/// A handler's view of the job it runs. Ask for it with a parameter of this type; clones are the same job.
#[derive(Debug, Clone)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: String,
    extra: Map<String, Value>,
    outbox: Arc<Outbox>,
    cancelled: CancellationToken,
    refresh: AtomicBool,
    span: Span,
    #[cfg(feature = "folder")]
    folder: Folder,
    #[cfg(feature = "download")]
    download_limits: DownloadLimits,
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
            #[cfg(feature = "folder")]
            folder: Folder::default(),
            #[cfg(feature = "download")]
            download_limits: DownloadLimits::default(),
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
    #[cfg(feature = "folder")]
    pub fn folder(&self) -> std::io::Result<std::path::PathBuf> {
        self.0.folder.path()
    }

    /// Removes the job's folder.
    #[cfg(feature = "folder")]
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

    /// Waits for what is async, on a thread that may block; `None`: the job is to stop first.
    #[cfg(feature = "download")]
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let runtime = tokio::runtime::Handle::current();
        runtime.block_on(self.0.cancelled.run_until_cancelled(work))
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

    pub(crate) fn wants_refresh(&self) -> bool {
        self.0.refresh.load(Ordering::Relaxed)
    }
}
