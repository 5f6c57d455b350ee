//! A trace of each job: the span `job`, with the child spans `take`, `run` and `deliver`, and the handler's own spans
//! in `run`.
//!
//! The `take` ends before the job exists, and `deliver` ends when the job does. Both spans are therefore exported
//! afterwards, with their own times. The `run` is a `tracing` span too, so that the handler's spans become its
//! children.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber, info_span, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::error::{Error, HandlerError, JobOutcome};
use crate::telemetry::log::{JOB_SPAN, is_quiet};
use crate::threads;

use super::{About, TakeTiming};

mod exporter;

/// Maximum time that a worker waits for its last traces at shutdown. It is below the library's own limit of 5 s, which
/// expires silently.
const LONGEST_FLUSH: Duration = Duration::from_secs(4);

/// The export of this process's traces, created on first use.
static EXPORT: Mutex<Option<Export>> = Mutex::new(None);

#[derive(Debug, Clone)]
pub(crate) struct Export {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Export {
    /// Returns the export of this process's traces, or `None` if the environment sets no collector.
    pub(crate) fn of_process() -> Result<Option<Self>, Error> {
        let mut export = EXPORT.lock().unwrap_or_else(PoisonError::into_inner);
        if export.is_none()
            && let Some(provider) = exporter::provider()?
        {
            let tracer = provider.tracer("podwork");
            *export = Some(Self { provider, tracer });
        }
        Ok(export.clone())
    }

    /// Returns a layer that exports spans of a `tracing` subscriber: those of handlers, at `INFO` and above, and the
    /// `run` spans that contain them.
    fn layer<S>(self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        // Excludes the span that adds the job's id to log lines: the exported `job` span starts with the poll.
        let filter = filter_fn(|metadata| {
            let name = metadata.target().split("::").next().unwrap_or_default();
            let marks = metadata.is_span() && name == "podwork" && metadata.name() == JOB_SPAN;
            *metadata.level() <= LevelFilter::INFO && !is_quiet(name) && !marks
        });
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer)
            .with_threads(false)
            .with_tracked_inactivity(false)
            // The handler's result decides whether a run failed, and not its log.
            .with_error_events_to_status(false)
            .with_filter(filter.with_max_level_hint(LevelFilter::INFO))
    }
}

/// Returns a layer that exports the spans of handlers as parts of their jobs' traces, for a program with its own
/// `tracing` subscriber. Without such a subscriber, the worker exports these spans automatically.
///
/// Returns `None`, which is a layer that does nothing, if the environment sets no collector. Filters must let spans of
/// the target `podwork` pass at `INFO` and above. Otherwise, each span of a handler becomes a separate trace, and is
/// not part of its job's trace.
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt as _;
///
/// # fn main() -> Result<(), podwork::Error> {
/// let subscriber = tracing_subscriber::registry().with(podwork::otel::layer()?); // … and a layer that writes a log
/// # drop(subscriber);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Returns an error if an `OTEL_…` variable has an invalid or unsupported value, or the HTTP client cannot be created.
pub fn layer<S>() -> Result<Option<impl Layer<S> + Send + Sync + use<S>>, Error>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    Ok(Export::of_process()?.map(Export::layer))
}

/// The traces of one worker.
#[derive(Debug)]
pub(super) struct Traces {
    export: Export,
    /// The attributes of each `job` span.
    about: Vec<KeyValue>,
}

impl Traces {
    /// Starts to trace jobs. Returns `None` if the environment sets no collector.
    pub(super) fn start(about: About, endpoint_id: Option<String>) -> Result<Option<Self>, Error> {
        let Some(export) = Export::of_process()? else {
            return Ok(None);
        };
        let mut attributes = vec![
            KeyValue::new("podwork.handler", about.handler),
            KeyValue::new("podwork.worker.id", about.worker_id),
        ];
        let endpoint = endpoint_id.map(|id| KeyValue::new("podwork.endpoint.id", id));
        attributes.extend(endpoint);
        Ok(Some(Self {
            export,
            about: attributes,
        }))
    }

    pub(super) fn job(&self, id: &str, taken: TakeTiming) -> Trace {
        let tracer = self.export.tracer.clone();
        let mut attributes = vec![KeyValue::new("podwork.job.id", id.to_owned())];
        attributes.extend_from_slice(&self.about);
        let job = tracer
            .span_builder("job")
            .with_kind(SpanKind::Consumer)
            .with_start_time(taken.began)
            .with_attributes(attributes)
            .start_with_context(&tracer, &Context::new());
        let job = Context::new().with_span(job);
        let trace = Trace {
            tracer,
            job,
            run: Mutex::default(),
            ran: OnceLock::new(),
            posts: AtomicI64::new(0),
            retries: AtomicI64::new(0),
        };
        let take = trace.call("take", taken.began);
        trace.tell(take, taken.ended, Status::Unset);
        trace
    }

    pub(super) async fn flush(&self, limit: Duration) {
        let provider = self.export.provider.clone();
        let limit = limit.min(LONGEST_FLUSH);
        // The exporter logs a failure.
        let flushing = threads::blocking(move || provider.force_flush());
        match tokio::time::timeout(limit, flushing).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "The last traces were not exported and may be lost."),
            Err(_) => warn!(
                limit_ms = limit.as_millis(),
                "The last traces were not exported in time and may be lost."
            ),
        }
    }
}

/// Records the number of jobs that share the handler call of this job's run.
pub(super) fn batched(run: &Span, jobs: usize) {
    let jobs = i64::try_from(jobs).unwrap_or(i64::MAX);
    run.set_attribute("podwork.batch.jobs", jobs);
}

/// The trace of one job. Ends on drop.
pub(super) struct Trace {
    tracer: SdkTracer,
    /// The context with the `job` span.
    job: Context,
    /// The context with the `run` span, while the handler runs.
    run: Mutex<Option<Context>>,
    /// The time when the run ended.
    ran: OnceLock<SystemTime>,
    posts: AtomicI64,
    retries: AtomicI64,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trace").field(&self.job).finish()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.job.span().end();
    }
}

impl Trace {
    fn current_run(&self) -> MutexGuard<'_, Option<Context>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a builder for the span of a call to the platform, which is part of the job.
    fn call(&self, name: &'static str, began: SystemTime) -> SpanBuilder {
        self.tracer
            .span_builder(name)
            .with_kind(SpanKind::Client)
            .with_start_time(began)
    }

    /// Exports a part of the job that has already ended.
    fn tell(&self, part: SpanBuilder, ended: SystemTime, status: Status) {
        let mut part = part.start_with_context(&self.tracer, &self.job);
        part.set_status(status);
        part.end_with_timestamp(ended);
    }

    /// Starts the run and returns its span. `log` is the span that adds the job's id to log lines.
    pub(super) fn run(&self, log: &Span) -> Span {
        let span = info_span!(parent: log, "run");
        // If the program's own subscriber does not export spans, or not these, only the run itself is exported.
        let set = span.set_parent(self.job.clone());
        let run = span.context();
        let (span, run) = if set.is_ok() && run.span().span_context().is_valid() {
            (span, run)
        } else {
            let run = self.tracer.span_builder("run");
            let run = run.start_with_context(&self.tracer, &self.job);
            (log.clone(), self.job.with_span(run))
        };
        *self.current_run() = Some(run);
        span
    }

    /// Ends the run.
    pub(super) fn ran(&self, failure: Option<&HandlerError>) {
        let now = SystemTime::now();
        let _ = self.ran.set(now);
        let Some(run) = self.current_run().take() else {
            return;
        };
        let span = run.span();
        if let Some(failure) = failure {
            span.set_attribute(KeyValue::new("error.type", failure.kind().to_owned()));
            span.set_status(Status::error(failure.message().to_owned()));
        }
        span.end_with_timestamp(now);
    }

    pub(super) fn posted(&self) {
        self.posts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Completes the trace of a job whose posts have all ended. `delivering`: true if the job has a result to deliver.
    pub(super) fn settled(&self, outcome: JobOutcome, delivering: bool) {
        let label = outcome.label();
        let status = match outcome {
            JobOutcome::Completed | JobOutcome::Cancelled => Status::Unset,
            _ => Status::error(label),
        };
        if let Some(&ran) = self.ran.get().filter(|_| delivering) {
            let refused = matches!(outcome, JobOutcome::Refused);
            let status = if refused {
                status.clone()
            } else {
                Status::Unset
            };
            let count = |count: &AtomicI64| count.load(Ordering::Relaxed);
            // The counts include chunks and progress of the run.
            let deliver = self.call("deliver", ran).with_attributes([
                KeyValue::new("podwork.posts", count(&self.posts)),
                KeyValue::new("podwork.retries", count(&self.retries)),
            ]);
            self.tell(deliver, SystemTime::now(), status);
        }
        let job = self.job.span();
        job.set_attribute(KeyValue::new("podwork.outcome", label));
        job.set_status(status);
    }
}
