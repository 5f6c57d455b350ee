//! A job, as the platform keeps it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use podwork_protocol::client::{JobState, StatusResponse, StreamChunk, StreamResponse};
use podwork_protocol::worker;
use podwork_protocol::{JobStatus, RawValue};
use serde_json::{Map, Value};
use tokio::time::Instant;

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What is asked about is not there.
    NotFound(String),
    /// The call makes no sense.
    Bad(String),
    /// The call comes too late, or from somebody whose job it is no more.
    Conflict(String),
    /// A payload is over its limit.
    TooLarge(String),
    /// There is no room for more; try again later.
    Full(String),
    /// The call comes too soon after others; try again after this time.
    Often(Duration),
}

/// A job's or a worker's id, which stands in many places.
pub(crate) type Id = Arc<str>;

/// A job, and all that is known of it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: Id,
    pub(crate) input: Box<RawValue>,
    /// What is handed on to the worker beside the input.
    pub(crate) extra: Map<String, Value>,
    /// Longest run.
    pub(crate) execution_timeout: Duration,
    /// When it is gone, whatever its state.
    pub(crate) expires: Instant,
    /// How long it is kept once it has ended.
    pub(crate) retention: Duration,
    /// Called once it has ended.
    pub(crate) webhook: Option<String>,

    pub(crate) status: JobStatus,
    /// Its place in the queue; meaningful while it waits there.
    pub(crate) place: i64,
    pub(crate) queued: Instant,
    pub(crate) taken: Option<Instant>,
    pub(crate) ended: Option<Instant>,
    /// When its worker last showed that it has it.
    pub(crate) named: Instant,
    /// Who has or had it.
    pub(crate) worker: Option<Id>,
    /// How often it was handed out since it was submitted or retried.
    pub(crate) tries: u32,
    /// The last progress, then the result.
    pub(crate) output: Option<Box<RawValue>>,
    pub(crate) error: Option<Value>,
    /// Counts progress updates, so that a follower sees each new one.
    pub(crate) progress: u64,
    pub(crate) chunks: Chunks,
}

impl Job {
    /// When something is due for it, in whatever state it is.
    pub(crate) fn deadline(&self) -> Instant {
        let own = match (self.taken, self.ended) {
            (_, Some(ended)) => ended + self.retention,
            (Some(taken), None) => taken + self.execution_timeout,
            (None, None) => self.expires,
        };
        own.min(self.expires)
    }

    /// Puts it back to where it was submitted.
    pub(crate) fn requeue(&mut self, now: Instant) {
        self.status = JobStatus::InQueue;
        self.queued = now;
        (self.taken, self.ended, self.worker) = (None, None, None);
        (self.output, self.error) = (None, None);
        self.progress = 0;
        self.chunks = Chunks::default();
    }

    pub(crate) fn hand_out(&self) -> worker::Job {
        let mut job = worker::Job::new(&*self.id, self.input.clone());
        job.extra.clone_from(&self.extra);
        job
    }

    pub(crate) fn state(&self) -> JobState {
        JobState::new(&*self.id, self.status)
    }

    pub(crate) fn status_response(&self) -> StatusResponse {
        let mut response = StatusResponse::new(&*self.id, self.status);
        response.delay_time = self.delay_time();
        response.execution_time = self.execution_time();
        response.worker_id = self.worker.as_deref().map(ToOwned::to_owned);
        response.output.clone_from(&self.output);
        response.error.clone_from(&self.error);
        response
    }

    /// The chunks from `from` on, with a status that is final only if these are the last.
    pub(crate) fn stream_response(&self, from: usize) -> StreamResponse {
        let mut response = StreamResponse::new(&*self.id, self.status);
        response.delay_time = self.delay_time();
        response.execution_time = self.execution_time();
        response.stream = self.chunks.since(from).map(StreamChunk::new).collect();
        response.error.clone_from(&self.error);
        response
    }

    fn delay_time(&self) -> Option<u64> {
        // A job that ended in the queue spent all its time there.
        self.taken
            .or(self.ended)
            .map(|until| millis(until - self.queued))
    }

    fn execution_time(&self) -> Option<u64> {
        Some(millis(self.ended? - self.taken?))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A job's chunks, counted from the first one ever.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    kept: VecDeque<Box<RawValue>>,
    bytes: usize,
    /// How many went before the first that is kept.
    gone: usize,
    /// How many `/stream` has handed out.
    handed_out: usize,
    /// The key of the last one, where its worker sends keys.
    last_key: Option<String>,
}

impl Chunks {
    /// Keeps one more; where there is no room, lets go of what was handed out already. One with the key of the last is
    /// the last, come again since the worker did not hear that it was accepted.
    pub(crate) fn push(
        &mut self,
        chunk: Box<RawValue>,
        key: Option<&str>,
        limit: usize,
    ) -> Result<(), Refusal> {
        if key.is_some() && key == self.last_key.as_deref() {
            return Ok(());
        }
        let size = chunk.get().len();
        while self.bytes + size > limit && self.gone < self.handed_out {
            let Some(oldest) = self.kept.pop_front() else {
                break;
            };
            self.bytes -= oldest.get().len();
            self.gone += 1;
        }
        if self.bytes + size > limit {
            return Err(Refusal::TooLarge(format!(
                "the job's stream holds {} bytes that no client has read yet, and {limit} is the limit; read /stream \
                 while the job runs",
                self.bytes
            )));
        }
        self.bytes += size;
        self.kept.push_back(chunk);
        self.last_key = key.map(ToOwned::to_owned);
        Ok(())
    }

    /// How many there were so far.
    pub(crate) fn len(&self) -> usize {
        self.gone + self.kept.len()
    }

    /// Those from `from` on that are still kept.
    pub(crate) fn since(&self, from: usize) -> impl Iterator<Item = Box<RawValue>> + '_ {
        self.kept
            .iter()
            .skip(from.saturating_sub(self.gone))
            .cloned()
    }

    /// How many were handed out.
    pub(crate) fn handed_out(&self) -> usize {
        self.handed_out
    }

    /// Moves the mark of what was handed out.
    pub(crate) fn set_handed_out(&mut self, count: usize) {
        self.handed_out = count.clamp(self.gone, self.len());
    }
}
