//! A pending webhook call, and its steps.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::moment::Moment;
use super::record::{Id, Record};

/// The lease of a try, longer than a try may take. If the call's outcome is not recorded by then, it is made again.
const LEASE: Duration = Duration::from_secs(15);

/// A pending webhook call. The commit that ends the job writes it; it is removed once it is delivered or given up.
#[derive(Debug, Clone)]
pub(crate) struct WebhookCall {
    /// The unique id of the call, the same for each try.
    pub(crate) id: Id,
    pub(crate) url: Arc<str>,
    /// The job's final record.
    pub(crate) job: Arc<Record>,
    /// The job's input, as its client sent it.
    pub(crate) input: Bytes,
    pub(crate) output: Option<Bytes>,
    pub(crate) version: u64,
    /// The number of failed tries.
    pub(crate) failed: usize,
    /// The time of the next try.
    pub(crate) due: Moment,
}

impl WebhookCall {
    /// Creates the call for a job that has ended, if the job has a webhook.
    pub(crate) fn of(job: &Arc<Record>, input: Bytes, output: Option<Bytes>) -> Option<Self> {
        Some(Self {
            id: format!("{}.{}", job.id, job.version).into(),
            url: Arc::clone(job.webhook.as_ref()?),
            job: Arc::clone(job),
            input,
            output,
            version: 1,
            failed: 0,
            due: job.ended?,
        })
    }

    /// Leases the call for one try; `None` if it is not due yet.
    pub(crate) fn claim(&self, now: Moment) -> Option<Self> {
        (self.due <= now).then(|| Self {
            due: now + LEASE,
            version: self.version + 1,
            ..self.clone()
        })
    }

    /// Records a failed try and schedules the next after the pause that follows it; `None` if it was the last.
    pub(crate) fn fail(&self, now: Moment, pauses: &[Duration]) -> Option<Self> {
        let pause = *pauses.get(self.failed)?;
        Some(Self {
            failed: self.failed + 1,
            due: now + pause,
            version: self.version + 1,
            ..self.clone()
        })
    }
}
