//! One job, watched from its submission to its end.

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use podwork_protocol::client::StatusResponse;
use podwork_protocol::{JobStatus, RawValue};

use crate::answers::{raw, status};
use crate::endpoint_handle::EndpointHandle;
use crate::engine::Id;
use crate::store::{Stored, Wanted};

/// What happens to a job.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum JobEvent {
    /// It waits for a worker; again, when its worker was lost or it is retried.
    Queued,
    /// A worker has it.
    Started {
        /// The worker's id.
        worker_id: String,
    },
    /// How far it is.
    Progress(Box<RawValue>),
    /// One chunk of its stream.
    Chunk(Box<RawValue>),
    /// It has ended.
    Finished(StatusResponse),
}

/// All that happens to a job, from its submission on; ends after [`JobEvent::Finished`], or when the job or the platform
/// is gone.
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
    /// The version of the last progress.
    progress: Option<u64>,
    chunks: usize,
}

impl Follower {
    /// What is new, once something is; `None` once there is nothing more to come.
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
                // It is gone.
                Err(_) => Some((Vec::new(), Seen::default())),
            }
        });
        let (events, after) = news.await?;
        *seen = after;
        (!events.is_empty()).then_some(events)
    }
}

impl Seen {
    /// What is new about a job, and what is seen of it then.
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
