//! What a handler may know of its job, and tell about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use podwork_protocol::limits;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use tracing::{Span, warn};

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

    pub(crate) fn wants_refresh(&self) -> bool {
        self.0.refresh.load(Ordering::Relaxed)
    }
}
