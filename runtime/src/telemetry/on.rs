//! Telemetry with at least one of the features `metrics` and `otel`: passes each event to the metrics and the traces,
//! whichever exist.
#![cfg_attr(
    not(all(feature = "metrics", feature = "otel")),
    allow(
        dead_code,
        unused_mut,
        unused_variables,
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "some items are used by one feature only"
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

/// The telemetry settings from the builder and the environment.
#[derive(Debug, Default)]
pub(crate) struct TelemetrySettings {
    #[cfg(feature = "metrics")]
    pub(crate) metrics: figures::MetricsSettings,
    #[cfg(feature = "otel")]
    endpoint_id: Option<String>,
}

impl TelemetrySettings {
    /// Reads the environment, which overrides the builder.
    pub(crate) fn read(&mut self, lookup: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
        #[cfg(feature = "metrics")]
        self.metrics.read(&lookup)?;
        #[cfg(feature = "otel")]
        {
            self.endpoint_id = crate::config::given(&lookup, podwork_protocol::env::ENDPOINT_ID);
        }
        Ok(())
    }

    /// Starts telemetry. Metrics are served until the returned guard is dropped. Each scrape calls `load`.
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

    /// Starts the timer of a poll for jobs.
    pub(crate) fn take(&self) -> TakeTimer {
        TakeTimer {
            telemetry: self.clone(),
            asked: Instant::now(),
            began: SystemTime::now(),
        }
    }

    /// Starts the telemetry of a job.
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

    /// Records that a batch of `size` jobs goes to the handler.
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

    /// Exports the last traces. Waits for at most `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        #[cfg(feature = "otel")]
        if let Some(traces) = &self.traces {
            traces.flush(limit).await;
        }
    }
}

/// The timer of a poll that is still waiting for its response.
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

/// The start and end times of a poll.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakeTiming {
    pub(super) began: SystemTime,
    pub(super) ended: SystemTime,
}

/// The telemetry of one job. It keeps no state of the job: the caller provides the times and the outcome.
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

    /// Returns the span that the handler runs in. `log` is the span that adds the job's id to log lines.
    pub(crate) fn run_span(&self, log: Span) -> Span {
        #[cfg(feature = "otel")]
        if let Some(trace) = &self.trace {
            return trace.run(&log);
        }
        log
    }

    /// Records that the handler has ended. `ran`: the time it ran, or `None` if it was never called.
    pub(crate) fn ran(&self, ran: Option<Duration>, failure: Option<&HandlerError>) {
        #[cfg(feature = "metrics")]
        if let Some(ran) = ran {
            self.figures(|figures| figures.ran(ran));
        }
        #[cfg(feature = "otel")]
        self.trace(|trace| trace.ran(failure));
    }

    /// Records a retry of a post.
    pub(crate) fn retried(&self, kind: PostKind) {
        #[cfg(feature = "metrics")]
        self.figures(|figures| figures.retried(kind));
        #[cfg(feature = "otel")]
        self.trace(Trace::retried);
    }

    /// Records the outcome of a post.
    pub(crate) fn posted(&self, kind: PostKind, fate: PostFate) {
        #[cfg(feature = "metrics")]
        self.figures(|figures| figures.posted(kind, fate));
        #[cfg(feature = "otel")]
        self.trace(Trace::posted);
    }

    /// Records the outcome of a job whose posts have all ended. `delivering`: the time since the result was ready, or
    /// `None` if there is no result.
    pub(crate) fn settled(&self, outcome: JobOutcome, delivering: Option<Duration>) {
        #[cfg(feature = "metrics")]
        self.figures(|figures| figures.settled(outcome, delivering));
        #[cfg(feature = "otel")]
        self.trace(|trace| trace.settled(outcome, delivering.is_some()));
    }
}
