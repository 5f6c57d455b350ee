//! What is noted, and passed on to the figures and the traces that there are.
#![cfg_attr(
    not(all(feature = "metrics", feature = "otel")),
    allow(
        dead_code,
        unused_mut,
        unused_variables,
        clippy::unnecessary_wraps,
        reason = "some of it one feature alone asks for"
    )
)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::Span;

use crate::error::Error;
use crate::error::HandlerError;

#[cfg(feature = "metrics")]
use super::figures::{self, Figures};
use super::outcome::Outcome;
#[cfg(feature = "metrics")]
use super::serve;
#[cfg(feature = "otel")]
use super::traces::{Trace, Traces};
use super::{About, Answer, Kind, Load, Posted, Reason};

/// What is to be told, before the worker starts.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    #[cfg(feature = "metrics")]
    pub(crate) metrics: figures::Plan,
    #[cfg(feature = "otel")]
    endpoint_id: Option<String>,
}

impl Plan {
    /// What the environment says has the last word.
    pub(crate) fn read(&mut self, lookup: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
        #[cfg(feature = "metrics")]
        self.metrics.read(&lookup)?;
        #[cfg(feature = "otel")]
        {
            self.endpoint_id = crate::config::given(&lookup, podwork_protocol::env::ENDPOINT_ID);
        }
        Ok(())
    }

    /// Begins. Figures are served until what comes with it is dropped; `load` is asked each time.
    pub(crate) fn start(
        self,
        about: About,
        load: impl Fn() -> Load + Send + Sync + 'static,
    ) -> Result<(Telemetry, Serving), Error> {
        #[cfg(feature = "metrics")]
        let (figures, serving) = match self.metrics.start(&about, load)? {
            Some((listener, registry, figures)) => {
                let serving = serve::MetricsServer::start(listener, registry)?;
                (Some(Arc::new(figures)), Some(serving))
            }
            None => (None, None),
        };
        let telemetry = Telemetry {
            #[cfg(feature = "metrics")]
            figures,
            #[cfg(feature = "otel")]
            traces: Traces::start(about, self.endpoint_id)?.map(Arc::new),
        };
        let serving = Serving {
            #[cfg(feature = "metrics")]
            _metrics: serving,
        };
        Ok((telemetry, serving))
    }
}

/// Figures are served for as long as this is there.
#[derive(Debug)]
pub(crate) struct Serving {
    #[cfg(feature = "metrics")]
    _metrics: Option<serve::MetricsServer>,
}

/// The notes of one worker.
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

    /// A take begins.
    pub(crate) fn take(&self) -> Take {
        Take {
            telemetry: self.clone(),
            asked: Instant::now(),
            began: SystemTime::now(),
        }
    }

    /// A job that was taken, and the span of its log.
    pub(crate) fn job(&self, id: &str, took: Took, span: Span) -> JobNotes {
        JobNotes {
            span,
            job: Arc::new(Noted {
                #[cfg(feature = "otel")]
                trace: self.traces.as_ref().map(|traces| traces.job(id, took)),
                #[cfg(feature = "metrics")]
                figures: self.figures.clone(),
                progress: Mutex::default(),
            }),
        }
    }

    /// So many jobs go to the handler together.
    pub(crate) fn batch<'a>(
        &self,
        size: usize,
        reason: Reason,
        jobs: impl Iterator<Item = &'a Span>,
    ) {
        #[cfg(feature = "metrics")]
        self.figures(|figures| figures.batch(size, reason));
        #[cfg(feature = "otel")]
        if self.traces.is_some() {
            jobs.for_each(|job| super::traces::batched(job, size));
        }
    }

    /// Has the last traces exported, for at most so long.
    pub(crate) async fn flush(&self, limit: Duration) {
        #[cfg(feature = "otel")]
        if let Some(traces) = &self.traces {
            traces.flush(limit).await;
        }
    }
}

/// A take under way.
#[derive(Debug)]
pub(crate) struct Take {
    telemetry: Telemetry,
    asked: Instant,
    began: SystemTime,
}

impl Take {
    pub(crate) fn answered(self, answer: Answer) -> Took {
        #[cfg(feature = "metrics")]
        self.telemetry
            .figures(|figures| figures.take(answer, self.asked.elapsed()));
        Took {
            began: self.began,
            ended: self.began + self.asked.elapsed(),
        }
    }
}

/// When a take was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(super) began: SystemTime,
    pub(super) ended: SystemTime,
}

/// The notes of one job, for who runs it.
#[derive(Debug)]
pub(crate) struct JobNotes {
    span: Span,
    job: Arc<Noted>,
}

/// … and for who delivers it.
#[derive(Debug, Clone)]
pub(crate) struct PostNotes(Arc<Noted>);

#[derive(Debug)]
struct Noted {
    #[cfg(feature = "metrics")]
    figures: Option<Arc<Figures>>,
    // Never held across an await.
    progress: Mutex<Progress>,
    #[cfg(feature = "otel")]
    trace: Option<Trace>,
}

/// How far the job is.
#[derive(Debug, Default)]
struct Progress {
    started: Option<Instant>,
    ended: Option<Instant>,
    outcome: Option<Outcome>,
}

impl Noted {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
}

impl JobNotes {
    /// Of a job that nobody asks about.
    pub(crate) fn none(span: Span) -> Self {
        let now = SystemTime::now();
        let took = Took {
            began: now,
            ended: now,
        };
        Telemetry::default().job("", took, span)
    }

    /// The notes of who runs it: what the handler traces is part of the run.
    pub(crate) fn running(mut self) -> Self {
        #[cfg(feature = "otel")]
        if let Some(trace) = &self.job.trace {
            self.span = trace.run(&self.span);
        }
        self
    }

    pub(crate) fn posts(&self) -> PostNotes {
        PostNotes(Arc::clone(&self.job))
    }

    /// The span of its log.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// The handler is called.
    pub(crate) fn started(&self) {
        self.job.progress().started = Some(Instant::now());
    }

    /// The handler has ended, with this failure or well.
    pub(crate) fn ended(&self, failure: Option<&HandlerError>) {
        let now = Instant::now();
        let started = {
            let mut progress = self.job.progress();
            progress.ended = Some(now);
            progress.started
        };
        #[cfg(feature = "metrics")]
        if let Some(started) = started {
            self.job.figures(|figures| figures.ran(now - started));
        }
        #[cfg(feature = "otel")]
        self.job.trace(|trace| trace.ran(failure));
    }
}

impl PostNotes {
    /// The final is to be posted; with the job's failure, if it failed.
    pub(crate) fn delivering(&self, failure: Option<&HandlerError>) {
        self.0.progress().outcome = Some(Outcome::of(failure));
    }

    /// A post is to be tried again.
    pub(crate) fn retried(&self, kind: Kind) {
        #[cfg(feature = "metrics")]
        self.0.figures(|figures| figures.retried(kind));
        #[cfg(feature = "otel")]
        self.0.trace(Trace::retried);
    }

    /// A post is done with.
    pub(crate) fn posted(&self, kind: Kind, posted: Posted) {
        #[cfg(feature = "metrics")]
        self.0.figures(|figures| figures.posted(kind, posted));
        #[cfg(feature = "otel")]
        self.0.trace(Trace::posted);
    }

    /// The final was not accepted, for good.
    pub(crate) fn not_accepted(&self) {
        self.0.progress().outcome = Some(Outcome::Refused);
    }

    /// There is nothing more to be posted.
    pub(crate) fn settled(&self) {
        self.settle(None);
    }

    /// Nothing more of it is to be posted.
    pub(crate) fn stopped(&self) {
        self.settle(Some(Outcome::Stopped));
    }

    fn settle(&self, outcome: Option<Outcome>) {
        let (came_to, ended) = {
            let progress = self.0.progress();
            (progress.outcome, progress.ended)
        };
        // What is stopped may not have come to anything.
        let outcome = outcome.or(came_to).unwrap_or(Outcome::Stopped);
        #[cfg(feature = "metrics")]
        self.0.figures(|figures| {
            let delivering = ended.map(|ended| ended.elapsed());
            figures.settled(outcome, delivering);
        });
        #[cfg(feature = "otel")]
        self.0
            .trace(|trace| trace.settled(outcome, came_to.is_some()));
    }
}
