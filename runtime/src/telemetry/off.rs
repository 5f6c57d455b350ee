//! Telemetry without the features `metrics` and `otel`: records nothing.

use std::time::Duration;

use tracing::Span;

use crate::error::{Error, HandlerError, JobOutcome};

use super::{About, BatchReason, Load, PostFate, PostKind, TakeResult};

#[derive(Debug, Default)]
pub(crate) struct TelemetrySettings(());

impl TelemetrySettings {
    #[expect(clippy::unused_self, clippy::unnecessary_wraps)]
    pub(crate) fn read(&mut self, _: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
        Ok(())
    }

    #[expect(clippy::unused_self, clippy::unnecessary_wraps)]
    pub(crate) fn start(
        self,
        _: About,
        _: impl Fn() -> Load,
    ) -> Result<(Telemetry, TelemetryGuard), Error> {
        Ok((Telemetry::default(), TelemetryGuard))
    }
}

#[derive(Debug)]
pub(crate) struct TelemetryGuard;

#[derive(Debug, Clone, Default)]
pub(crate) struct Telemetry(());

#[expect(clippy::unused_self)]
impl Telemetry {
    pub(crate) fn take(&self) -> TakeTimer {
        TakeTimer
    }

    pub(crate) fn job(&self, _: &str, _: TakeTiming) -> JobTelemetry {
        JobTelemetry
    }

    pub(crate) fn batch<'a>(&self, _: usize, _: BatchReason, _: impl Iterator<Item = &'a Span>) {}

    pub(crate) async fn flush(&self, _: Duration) {}
}

#[derive(Debug)]
pub(crate) struct TakeTimer;

#[expect(clippy::unused_self)]
impl TakeTimer {
    pub(crate) fn answered(self, _: TakeResult) -> TakeTiming {
        TakeTiming
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TakeTiming;

#[derive(Debug, Clone, Default)]
pub(crate) struct JobTelemetry;

#[expect(clippy::unused_self)]
impl JobTelemetry {
    pub(crate) fn run_span(&self, log: Span) -> Span {
        log
    }

    pub(crate) fn ran(&self, _: Option<Duration>, _: Option<&HandlerError>) {}

    pub(crate) fn retried(&self, _: PostKind) {}

    pub(crate) fn posted(&self, _: PostKind, _: PostFate) {}

    pub(crate) fn settled(&self, _: JobOutcome, _: Option<Duration>) {}
}
