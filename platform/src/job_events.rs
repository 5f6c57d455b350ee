//! One job, watched from its submission to its end.

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use podwork_protocol::client::StatusResponse;
use podwork_protocol::{JobStatus, RawValue};

use crate::endpoint_handle::EndpointHandle;
use crate::engine::{Id, Job};

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

#[derive(Default)]
struct Seen {
    queued: bool,
    worker: Option<Id>,
    progress: u64,
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
        let events = handle.until_job(job_id, |handle| {
            let events = handle.read(|endpoint| endpoint.job(job_id).map(|job| seen.news(job)))?;
            Ok((!events.is_empty()).then_some(events))
        });
        events.await?.ok()
    }
}

impl Seen {
    fn news(&mut self, job: &Job) -> Vec<JobEvent> {
        let mut events = Vec::new();
        if !self.queued || (job.status == JobStatus::InQueue && self.worker.is_some()) {
            *self = Self {
                queued: true,
                ..Self::default()
            };
            events.push(JobEvent::Queued);
        }
        if self.worker != job.worker
            && let Some(worker) = &job.worker
        {
            self.worker = Some(Id::clone(worker));
            let worker_id = worker.to_string();
            events.push(JobEvent::Started { worker_id });
        }
        if self.progress < job.progress && job.status == JobStatus::InProgress {
            self.progress = job.progress;
            events.extend(job.output.clone().map(JobEvent::Progress));
        }
        events.extend(job.chunks.since(self.chunks).map(JobEvent::Chunk));
        self.chunks = job.chunks.len();
        if job.status.is_final() {
            events.push(JobEvent::Finished(job.status_response()));
        }
        events
    }
}
