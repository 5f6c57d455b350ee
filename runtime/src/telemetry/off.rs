//! Nothing is noted.

use std::time::Duration;

use tracing::Span;

use crate::error::Error;
use crate::error::HandlerError;

use super::{About, Answer, Kind, Load, Posted, Reason};

#[derive(Debug, Default)]
pub(crate) struct Plan(());

impl Plan {
    #[expect(clippy::unused_self, clippy::unnecessary_wraps)]
    pub(crate) fn read(&mut self, _: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
        Ok(())
    }

    #[expect(clippy::unused_self, clippy::unnecessary_wraps)]
    pub(crate) fn start(
        self,
        _: About,
        _: impl Fn() -> Load,
    ) -> Result<(Telemetry, Serving), Error> {
        Ok((Telemetry::default(), Serving))
    }
}

#[derive(Debug)]
pub(crate) struct Serving;

#[derive(Debug, Clone, Default)]
pub(crate) struct Telemetry(());

#[expect(clippy::unused_self)]
impl Telemetry {
    pub(crate) fn take(&self) -> Take {
        Take
    }

    pub(crate) fn job(&self, _: &str, _: Took, span: Span) -> JobNotes {
        JobNotes(span)
    }

    pub(crate) fn batch<'a>(&self, _: usize, _: Reason, _: impl Iterator<Item = &'a Span>) {}

    pub(crate) async fn flush(&self, _: Duration) {}
}

#[derive(Debug)]
pub(crate) struct Take;

#[expect(clippy::unused_self)]
impl Take {
    pub(crate) fn answered(self, _: Answer) -> Took {
        Took
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Took;

/// Only the job's span.
#[derive(Debug, Clone)]
pub(crate) struct JobNotes(Span);

#[expect(clippy::unused_self)]
impl JobNotes {
    pub(crate) fn none(span: Span) -> Self {
        Self(span)
    }

    pub(crate) fn running(self) -> Self {
        self
    }

    pub(crate) fn span(&self) -> &Span {
        &self.0
    }

    pub(crate) fn posts(&self) -> PostNotes {
        PostNotes
    }

    pub(crate) fn started(&self) {}

    pub(crate) fn ended(&self, _: Option<&HandlerError>) {}
}

#[derive(Debug)]
pub(crate) struct PostNotes;

#[expect(clippy::unused_self)]
impl PostNotes {
    pub(crate) fn delivering(&self, _: Option<&HandlerError>) {}

    pub(crate) fn retried(&self, _: Kind) {}

    pub(crate) fn posted(&self, _: Kind, _: Posted) {}

    pub(crate) fn not_accepted(&self) {}

    pub(crate) fn settled(&self) {}

    pub(crate) fn stopped(&self) {}
}
