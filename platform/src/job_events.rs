//! The event stream of one job, from its submission to its end.

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use podwork_protocol::client::StatusResponse;
use podwork_protocol::{JobStatus, RawValue};

use crate::answers::{raw, status};
use crate::endpoint_handle::EndpointHandle;
use crate::engine::Id;
use crate::store::{Stored, Wanted};

/// An event in the life of a job.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum JobEvent {
    /// The job waits for a worker: after it was submitted or retried, or after its worker was lost.
    Queued,
    /// A worker has taken the job.
    Started {
        /// The worker's id.
        worker_id: String,
    },
    /// The job reported progress.
    Progress(Box<RawValue>),
    /// The job sent one chunk of its stream.
    Chunk(Box<RawValue>),
    /// The job has ended.
    Finished(StatusResponse),
}

/// Returns all events of a job, from its submission on. The stream ends after [`JobEvent::Finished`], when the job is
/// removed, or when the platform shuts down.
pub(crate) fn follow(
    handle: Arc<EndpointHandle>,
    job_id: String,
) -> impl Stream<Item = JobEvent> + Send {
    let start = Follower {
        handle,
        job_id,
        seen: Seen::default(),
    };
    let events = futures::stream::unfold(Some(start), |follower| async move {
        let mut follower = follower?;
        let events = follower.next().await?;
        let ended = matches!(events.last(), Some(JobEvent::Finished(_)));
        Some((futures::stream::iter(events), (!ended).then_some(follower)))
    });
    events.flatten()
}

struct Follower {
    handle: Arc<EndpointHandle>,
    job_id: String,
    seen: Seen,
}

#[derive(Clone, Default)]
struct Seen {
    queued: bool,
    worker: Option<Id>,
    /// The record version of the last progress.
    progress: Option<u64>,
    chunks: usize,
}

impl Follower {
    /// Waits for new events and returns them; `None` once there are no more events.
    async fn next(&mut self) -> Option<Vec<JobEvent>> {
        let Self {
            handle,
            job_id,
            seen,
        } = self;
        let before = &*seen;
        let news = handle.until_job(job_id, None, || async {
            let wanted = Wanted::Since(before.chunks);
            match handle.endpoint().job(job_id, wanted).await {
                Ok(job) => Some(before.news(&job)).filter(|(events, _)| !events.is_empty()),
                // The job was removed.
                Err(_) => Some((Vec::new(), Seen::default())),
            }
        });
        let (events, after) = news.await?;
        *seen = after;
        (!events.is_empty()).then_some(events)
    }
}

impl Seen {
    /// Returns the new events of a job, and the state after them.
    fn news(&self, job: &Stored) -> (Vec<JobEvent>, Self) {
        let mut seen = self.clone();
        let record = &job.record;
        let mut events = Vec::new();
        if !seen.queued || (record.status == JobStatus::InQueue && seen.worker.is_some()) {
            seen = Self {
                queued: true,
                ..Self::default()
            };
            events.push(JobEvent::Queued);
        }
        if seen.worker != record.worker
            && let Some(worker) = &record.worker
        {
            seen.worker = Some(Id::clone(worker));
            let worker_id = worker.to_string();
            events.push(JobEvent::Started { worker_id });
        }
        if seen.progress < record.output && record.status == JobStatus::InProgress {
            seen.progress = record.output;
            events.extend(job.output.as_ref().map(raw).map(JobEvent::Progress));
        }
        events.extend(job.chunks.iter().map(raw).map(JobEvent::Chunk));
        seen.chunks = record.chunks.count;
        if record.status.is_final() {
            events.push(JobEvent::Finished(status(job)));
        }
        (events, seen)
    }
}
