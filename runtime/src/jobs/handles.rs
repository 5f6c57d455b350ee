//! The handles that keep a job in the table: `JobRun` for the code that runs it, `JobDelivery` for the code that
//! delivers it. Neither waits for the other, and the job leaves the table once both are dropped.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::error::{HandlerError, JobOutcome};
use crate::telemetry::JobTelemetry;

use super::Jobs;
use super::cancel_tokens::CancelTokens;
use super::table::{Ended, JobKey};

/// The slot of a job, owned by the code that runs it. Dropping it frees the slot.
#[derive(Debug)]
pub(crate) struct JobRun {
    jobs: Arc<Jobs>,
    key: JobKey,
    tokens: CancelTokens,
    telemetry: JobTelemetry,
    /// The size of the data waiting in the job's outbox, in bytes.
    bytes: usize,
}

impl JobRun {
    pub(super) fn new(
        jobs: Arc<Jobs>,
        key: JobKey,
        tokens: CancelTokens,
        telemetry: JobTelemetry,
    ) -> Self {
        Self {
            jobs,
            key,
            tokens,
            telemetry,
            bytes: 0,
        }
    }

    pub(crate) fn tokens(&self) -> &CancelTokens {
        &self.tokens
    }

    pub(crate) fn telemetry(&self) -> &JobTelemetry {
        &self.telemetry
    }

    /// Records that the handler is called.
    pub(crate) fn started(&self) {
        self.jobs.table().start(self.key, Instant::now());
    }

    /// Records the result of the run: `failure`, or success. Returns whether that trips the breaker.
    pub(crate) fn finished(&self, failure: Option<&HandlerError>) -> bool {
        let outcome = failure.map_or(JobOutcome::Completed, HandlerError::outcome);
        // `None` if another job of the batch already counts for this failure.
        let breakdown = failure.map_or(Some(false), HandlerError::is_breakdown);
        let (at, outcome) = (Instant::now(), Some(outcome));
        let (since, tripped) = {
            let mut table = self.jobs.table();
            let since = table.end(self.key, Ended { at, outcome });
            let tripped = breakdown.is_some_and(|breakdown| table.count_breakdown(breakdown));
            (since, tripped)
        };
        self.telemetry.ran(since.map(|since| at - since), failure);
        tripped
    }

    /// Records that the platform cancelled the job: there is no result.
    pub(crate) fn cancelled(&self) {
        let (at, outcome) = (Instant::now(), None);
        let since = self.jobs.table().end(self.key, Ended { at, outcome });
        self.telemetry.ran(since.map(|since| at - since), None);
    }

    /// Frees the slot: the handler has returned, and `bytes` bytes wait in the job's outbox.
    pub(crate) fn vacate(mut self, bytes: usize) {
        self.bytes = bytes;
    }
}

impl Drop for JobRun {
    fn drop(&mut self) {
        self.jobs
            .table()
            .vacate(self.key, self.bytes, Instant::now());
        self.jobs.room.notify_one();
    }
}

/// The delivery of a job, owned by the code that posts it. Dropping it abandons the job: nothing more of it is posted.
#[derive(Debug)]
pub(crate) struct JobDelivery {
    jobs: Arc<Jobs>,
    key: JobKey,
    cancelled: CancellationToken,
    telemetry: JobTelemetry,
    settled: bool,
}

impl JobDelivery {
    pub(super) fn new(
        jobs: Arc<Jobs>,
        key: JobKey,
        cancelled: CancellationToken,
        telemetry: JobTelemetry,
    ) -> Self {
        Self {
            jobs,
            key,
            cancelled,
            telemetry,
            settled: false,
        }
    }

    /// Returns the token that is cancelled when the platform cancels the job.
    pub(crate) fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    pub(crate) fn telemetry(&self) -> &JobTelemetry {
        &self.telemetry
    }

    /// Records the final outcome of the job: nothing more of it is posted.
    pub(crate) fn settled(mut self, outcome: JobOutcome) {
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: JobOutcome) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let completed = outcome == JobOutcome::Completed;
        let ended = self
            .jobs
            .table()
            .settle(self.key, completed, Instant::now());
        let ready = ended.filter(|ended| ended.outcome.is_some());
        self.telemetry
            .settled(outcome, ready.map(|ended| ended.at.elapsed()));
        self.jobs.room.notify_one();
    }
}

impl Drop for JobDelivery {
    fn drop(&mut self) {
        self.settle(JobOutcome::Cancelled);
    }
}

/// A permit to run one batch. Dropping it makes room for another batch.
#[derive(Debug)]
pub(crate) struct BatchPermit {
    jobs: Arc<Jobs>,
    key: JobKey,
}

impl BatchPermit {
    pub(super) fn new(jobs: Arc<Jobs>, key: JobKey) -> Self {
        Self { jobs, key }
    }

    /// Records that all `jobs` jobs of the batch have ended but the handler is still running. The worker fetches fewer
    /// jobs until the returned guard is dropped.
    pub(crate) fn stuck(&self, jobs: usize) -> StuckBatch<'_> {
        self.jobs.table().set_stuck(self.key, Some(jobs));
        StuckBatch(self)
    }
}

/// A guard for a batch whose jobs have all ended but whose handler is still running.
#[derive(Debug)]
pub(crate) struct StuckBatch<'a>(&'a BatchPermit);

impl Drop for StuckBatch<'_> {
    fn drop(&mut self) {
        let BatchPermit { jobs, key } = self.0;
        jobs.table().set_stuck(*key, None);
        jobs.room.notify_one();
    }
}

impl Drop for BatchPermit {
    fn drop(&mut self) {
        self.jobs.table().end_batch(self.key);
        self.jobs.batch_room.notify_one();
        self.jobs.room.notify_one();
    }
}
