//! Telemetry with at least one of the features `metrics` and `otel`: each fact goes to the figures and the traces that
//! there are.
#![cfg_attr(
    not(all(feature = "metrics", feature = "otel")),
    allow(
        dead_code,
        unused_mut,
        unused_variables,
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "some of it only one feature needs"
    )
)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::Span;

use crate::error::{Error, HandlerError, JobOutcome};

#[cfg(feature = "metrics")]
use super::figures::{self, Figures};
#[cfg(feature = "metrics")]
use super::serve;
#[cfg(feature = "otel")]
use super::traces::{Trace, Traces};
use super::{About, BatchReason, Load, PostFate, PostKind, TakeResult};

/// The telemetry that the builder and the environment ask for.
#[derive(Debug, Default)]
pub(crate) struct TelemetrySettings {
    #[cfg(feature = "metrics")]
    pub(crate) metrics: figures::MetricsSettings,
    #[cfg(feature = "otel")]
    endpoint_id: Option<String>,
}

impl TelemetrySettings {
    /// Reads the environment, which wins over the builder.
    pub(crate) fn read(&mut self, lookup: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
        #[cfg(feature = "metrics")]
        self.metrics.read(&lookup)?;
        #[cfg(feature = "otel")]
        {
            self.endpoint_id = crate::config::given(&lookup, podwork_protocol::env::ENDPOINT_ID);
        }
        Ok(())
    }

    /// Starts telemetry. Metrics are served until the returned guard is dropped; `load` is called at each scrape.
    pub(crate) fn start(
        self,
        about: About,
        load: impl Fn() -> Load + Send + Sync + 'static,
    ) -> Result<(Telemetry, TelemetryGuard), Error> {
        #[cfg(feature = "metrics")]
        let (figures, server) = match self.metrics.start(&about, load)? {
            Some((listener, registry, figures)) => {
                let server = serve::MetricsServer::start(listener, registry)?;
                (Some(Arc::new(figures)), Some(server))
            }
            None => (None, None),
        };
        let telemetry = Telemetry {
            #[cfg(feature = "metrics")]
            figures,
            #[cfg(feature = "otel")]
            traces: Traces::start(about, self.endpoint_id)?.map(Arc::new),
        };
        let guard = TelemetryGuard {
            #[cfg(feature = "metrics")]
            _metrics: server,
        };
        Ok((telemetry, guard))
    }
}

/// Serves metrics until it is dropped.
#[derive(Debug)]
pub(crate) struct TelemetryGuard {
    #[cfg(feature = "metrics")]
    _metrics: Option<serve::MetricsServer>,
}

/// The telemetry of one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Telemetry {
    #[cfg(feature = "metrics")]
    figures: Option<Arc<Figures>>,
    #[cfg(feature = "otel")]
    traces: Option<Arc<Traces>>,
}

impl Telemetry {
    #[cfg(feature = "metrics")]
    fn figures(&self, note: impl FnOnce(&Figures)) {
        if let Some(figures) = &self.figures {
            note(figures);
        }
    }

    /// Starts the clock of a take.
    pub(crate) fn take(&self) -> TakeTimer {
        TakeTimer {
            telemetry: self.clone(),
            asked: Instant::now(),
            began: SystemTime::now(),
        }
    }

    /// Begins the telemetry of a job.
    pub(crate) fn job(&self, id: &str, taken: TakeTiming) -> JobTelemetry {
        JobTelemetry {
            #[cfg(feature = "metrics")]
            figures: self.figures.clone(),
            #[cfg(feature = "otel")]
            trace: self
                .traces
                .as_ref()
                .map(|traces| Arc::new(traces.job(id, taken))),
        }
    }

    /// Notes that a batch of `size` jobs goes to the handler.
    pub(crate) fn batch<'a>(
        &self,
        size: usize,
        reason: BatchReason,
        jobs: impl Iterator<Item = &'a Span>,
    ) {
        #[cfg(feature = "metrics")]
        self.figures(|figures| figures.batch(size, reason));
        #[cfg(feature = "otel")]
        if self.traces.is_some() {
            jobs.for_each(|job| super::traces::batched(job, size));
        }
    }

    /// Exports the last traces, within `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        #[cfg(feature = "otel")]
        if let Some(traces) = &self.traces {
            traces.flush(limit).await;
        }
    }
}

/// A take whose answer is outstanding.
#[derive(Debug)]
pub(crate) struct TakeTimer {
    telemetry: Telemetry,
    asked: Instant,
    began: SystemTime,
}

impl TakeTimer {
    pub(crate) fn answered(self, result: TakeResult) -> TakeTiming {
        let took = self.asked.elapsed();
        #[cfg(feature = "metrics")]
        self.telemetry.figures(|figures| figures.take(result, took));
        TakeTiming {
            began: self.began,
            ended: self.began + took,
        }
    }
}

/// When a take began and ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakeTiming {
    pub(super) began: SystemTime,
    pub(super) ended: SystemTime,
}

/// The telemetry of one job. It keeps no state of the job's own: the caller knows the times and the outcome.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobTelemetry {
    #[cfg(feature = "metrics")]
    figures: Option<Arc<Figures>>,
    #[cfg(feature = "otel")]
    trace: Option<Arc<Trace>>,
}

impl JobTelemetry {
    #[cfg(feature = "metrics")]
    fn figures(&self, note: impl FnOnce(&Figures)) {
        if let Some(figures) = &self.figures {
            note(figures);
        }
    }

    #[cfg(feature = "otel")]
    fn trace(&self, note: impl FnOnce(&Trace)) {
        if let Some(trace) = &self.trace {
            note(trace);
        }
    }

    /// Returns the span that the handler runs in, given the one that marks the job's log lines.
    pub(crate) fn run_span(&self, log: Span) -> Span {
        #[cfg(feature = "otel")]
        if let Some(trace) = &self.trace {
            return trace.run(&log);
        }
        log
    }

    /// Notes that the handler has ended; `ran`: how long it ran, if it was called at all.
    pub(crate) fn ran(&self, ran: Option<Duration>, failure: Option<&HandlerError>) {
        #[cfg(feature = "metrics")]
        if let Some(ran) = ran {
            self.figures(|figures| figures.ran(ran));
        }
        #[cfg(feature = "otel")]
        self.trace(|trace| trace.ran(failure));
    }

    /// Notes that a post is tried again.
    pub(crate) fn retried(&self, kind: PostKind) {
        #[cfg(feature = "metrics")]
        self.figures(|figures| figures.retried(kind));
        #[cfg(feature = "otel")]
        self.trace(Trace::retried);
    }

    /// Notes the end of a post.
    pub(crate) fn posted(&self, kind: PostKind, fate: PostFate) {
        #[cfg(feature = "metrics")]
        self.figures(|figures| figures.posted(kind, fate));
        #[cfg(feature = "otel")]
        self.trace(Trace::posted);
    }

    /// Notes that nothing more is posted; `delivering`: how long ago the job's result was ready, if it ever was.
    pub(crate) fn settled(&self, outcome: JobOutcome, delivering: Option<Duration>) {
        #[cfg(feature = "metrics")]
        self.figures(|figures| figures.settled(outcome, delivering));
        #[cfg(feature = "otel")]
        self.trace(|trace| trace.settled(outcome, delivering.is_some()));
    }
}
