//! A webhook call that is to be made, and its steps.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::moment::Moment;
use super::record::{Id, Record};

/// Tries of one call.
const TRIES: u32 = 3;
/// The pause before each further try: the documented one.
const PAUSE: Duration = Duration::from_secs(10);
/// How long a try belongs to its maker: longer than a try may take. One whose maker is gone is made again.
const LEASE: Duration = Duration::from_secs(15);

/// A webhook call that is to be made: written by the commit that ends the job, and removed once it was delivered or given
/// up.
#[derive(Debug, Clone)]
pub(crate) struct WebhookCall {
    /// The same for each try of the call, and no other's.
    pub(crate) id: Id,
    pub(crate) url: Arc<str>,
    /// The job as it ended.
    pub(crate) job: Arc<Record>,
    pub(crate) output: Option<Bytes>,
    pub(crate) version: u64,
    /// Tries that have failed.
    pub(crate) failed: u32,
    /// When it is to be made.
    pub(crate) due: Moment,
}

impl WebhookCall {
    /// The call that is due since the job has ended, if anybody asked for one.
    pub(crate) fn of(job: &Arc<Record>, output: Option<Bytes>) -> Option<Self> {
        Some(Self {
            id: format!("{}.{}", job.id, job.version).into(),
            url: Arc::clone(job.webhook.as_ref()?),
            job: Arc::clone(job),
            output,
            version: 1,
            failed: 0,
            due: job.ended?,
        })
    }

    /// Somebody makes a try.
    pub(crate) fn claim(&self, now: Moment) -> Option<Self> {
        (self.due <= now).then(|| Self {
            due: now + LEASE,
            version: self.version + 1,
            ..self.clone()
        })
    }

    /// The try has failed; `None`: it was the last.
    pub(crate) fn fail(&self, now: Moment) -> Option<Self> {
        let failed = self.failed + 1;
        (failed < TRIES).then(|| Self {
            failed,
            due: now + PAUSE,
            version: self.version + 1,
            ..self.clone()
        })
    }
}
