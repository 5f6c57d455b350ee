//! The rules, one pure step each: from a job's record to the next, or a refusal.
//!
//! A step that removes the job returns no record: it says whether the job may go.

#[cfg(test)]
mod table;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use podwork_protocol::JobStatus;
use serde_json::json;

use super::moment::{Moment, millis};
use super::record::{ChunkMarks, Id, Record};
use super::refusal::Refusal;

type Stepped = Result<Record, Refusal>;

/// A job to be run.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) id: Id,
    /// The handler's input, as JSON text.
    pub(crate) input: Bytes,
    /// Further members of the job that its worker gets, as JSON text with a comma before each.
    pub(crate) extra: Bytes,
    pub(crate) execution_timeout: Duration,
    pub(crate) ttl: Duration,
    pub(crate) retention: Duration,
    /// URL called once the job has ended.
    pub(crate) webhook: Option<String>,
}

/// A worker's result of a job.
#[derive(Debug)]
pub(crate) struct JobEnd<'a> {
    pub(crate) worker_id: &'a str,
    pub(crate) has_output: bool,
    /// Why the job failed, as JSON text; `None`: it has completed.
    pub(crate) error: Option<Arc<str>>,
}

/// A chunk that a worker has sent.
#[derive(Debug)]
pub(crate) struct NewChunk<'a> {
    pub(crate) worker_id: &'a str,
    pub(crate) bytes: usize,
    /// Tells a chunk that was sent again.
    pub(crate) key: Option<&'a str>,
    /// Largest chunk, bytes.
    pub(crate) limit: usize,
    /// Most bytes that the job keeps.
    pub(crate) buffer: usize,
}

/// Chunks that a client of `/stream` has received.
#[derive(Debug)]
pub(crate) struct ReadMark<'a> {
    /// Those of the record that the client's answer was made from.
    pub(crate) requeues: u32,
    /// How many were before them.
    pub(crate) from: usize,
    pub(crate) chunks: &'a [Bytes],
}

/// A client submits a job.
pub(crate) fn submit(submission: &Submission, now: Moment) -> Record {
    Record {
        id: Id::clone(&submission.id),
        version: 1,
        nonce: 0,
        status: JobStatus::InQueue,
        tries: 0,
        requeues: 0,
        execution_timeout_ms: millis(submission.execution_timeout),
        retention_ms: millis(submission.retention),
        expires: now + submission.ttl,
        webhook: submission.webhook.as_deref().map(Into::into),
        queued: now,
        taken: None,
        ended: None,
        named: now,
        worker: None,
        output: None,
        error: None,
        chunks: ChunkMarks::default(),
    }
}

/// A queued job is given to a worker.
pub(crate) fn hand_out(job: &Record, now: Moment, worker_id: &Id) -> Stepped {
    in_queue(job)?;
    Ok(Record {
        status: JobStatus::InProgress,
        taken: Some(now),
        named: now,
        worker: Some(Id::clone(worker_id)),
        tries: job.tries + 1,
        ..job.successor()
    })
}

/// The answer with the job did not reach the worker: the job waits again, as if it had not been handed out.
pub(crate) fn give_back(job: &Record, worker_id: &str) -> Stepped {
    held(job, worker_id)?;
    Ok(Record {
        status: JobStatus::InQueue,
        tries: job.tries.saturating_sub(1),
        taken: None,
        worker: None,
        ..job.successor()
    })
}

/// The worker names the job in a heartbeat.
pub(crate) fn name(job: &Record, now: Moment, worker_id: &str) -> Stepped {
    held(job, worker_id)?;
    Ok(Record {
        named: now,
        ..job.successor()
    })
}

/// The worker reports progress.
pub(crate) fn progress(job: &Record, now: Moment, worker_id: &str, has_output: bool) -> Stepped {
    held(job, worker_id)?;
    let next = job.successor();
    Ok(Record {
        output: has_output.then_some(next.version),
        named: now,
        ..next
    })
}

/// The worker reports the result.
pub(crate) fn finish(job: &Record, now: Moment, outcome: &JobEnd<'_>) -> Stepped {
    held(job, outcome.worker_id)?;
    let status = match outcome.error {
        Some(_) => JobStatus::Failed,
        None => JobStatus::Completed,
    };
    let next = end(job, status, now);
    Ok(Record {
        output: outcome.has_output.then_some(next.version),
        error: outcome.error.clone(),
        ..next
    })
}

/// The worker sends a chunk. A chunk with the key of the last one is the last one, sent again since its worker did not
/// hear that it was accepted.
pub(crate) fn chunk(job: &Record, now: Moment, chunk: &NewChunk<'_>) -> Stepped {
    held(job, chunk.worker_id)?;
    if chunk.bytes > chunk.limit {
        return Err(Refusal::TooLarge(format!(
            "the chunk is {} bytes, and {} is the limit",
            chunk.bytes, chunk.limit
        )));
    }
    let mut next = Record {
        named: now,
        ..job.successor()
    };
    let chunks = &mut next.chunks;
    if chunk.key.is_some() && chunk.key == chunks.last_key.as_deref() {
        return Ok(next);
    }
    if chunks.bytes + chunk.bytes > chunk.buffer {
        chunks.gone = chunks.read;
        chunks.bytes -= std::mem::take(&mut chunks.read_bytes);
    }
    if chunks.bytes + chunk.bytes > chunk.buffer {
        return Err(Refusal::TooLarge(format!(
            "the job's stream holds {} bytes that no client has read yet, and {} is the limit; read /stream while the \
             job runs",
            chunks.bytes, chunk.buffer
        )));
    }
    chunks.count += 1;
    chunks.bytes += chunk.bytes;
    chunks.last_key = chunk.key.map(Into::into);
    Ok(next)
}

/// A client of `/stream` has received chunks.
pub(crate) fn read(job: &Record, mark: &ReadMark<'_>) -> Stepped {
    let upto = mark.from + mark.chunks.len();
    let already = job.chunks.read.saturating_sub(mark.from);
    if job.requeues != mark.requeues || upto <= job.chunks.read || upto > job.chunks.count {
        return Err(Refusal::Conflict(format!(
            "job {}: these chunks were delivered before, or belong to an earlier run",
            job.id
        )));
    }
    let mut next = job.successor();
    next.chunks.read = upto;
    next.chunks.read_bytes += mark.chunks[already..].iter().map(Bytes::len).sum::<usize>();
    Ok(next)
}

/// A client cancels the job.
pub(crate) fn cancel(job: &Record, now: Moment) -> Stepped {
    if job.status.is_final() {
        return Err(Refusal::Conflict(format!("job {} has ended", job.id)));
    }
    Ok(end(job, JobStatus::Cancelled, now))
}

/// A client runs the job again.
pub(crate) fn retry(job: &Record, now: Moment) -> Stepped {
    if !matches!(job.status, JobStatus::Failed | JobStatus::TimedOut) {
        return Err(Refusal::Bad(format!(
            "job {} is {}, and only a job that is FAILED or TIMED_OUT can be retried",
            job.id, job.status
        )));
    }
    Ok(Record {
        tries: 0,
        ..requeue(job, now)
    })
}

/// A client shortens the job's life, which ends `ttl` from now at the latest.
pub(crate) fn shorten(job: &Record, now: Moment, ttl: Duration) -> Record {
    Record {
        expires: job.expires.min(now + ttl),
        ..job.successor()
    }
}

/// The job's worker is lost, or never had the job: the job is for others, a bounded number of times.
pub(crate) fn lose(job: &Record, now: Moment, worker_id: &str, tries: u32) -> Stepped {
    held(job, worker_id)?;
    if job.tries < tries {
        return Ok(requeue(job, now));
    }
    let error = json!(format!(
        "the job was lost with its worker {} times; the last was {worker_id}",
        job.tries
    ));
    Ok(Record {
        error: Some(error.to_string().into()),
        ..end(job, JobStatus::Failed, now)
    })
}

/// The job has run for longer than its `executionTimeout`.
pub(crate) fn time_out(job: &Record, now: Moment) -> Stepped {
    let runs = job.status == JobStatus::InProgress;
    if !runs || job.due() > now || job.expires <= now {
        return Err(not_due(job));
    }
    let limit = job.execution_timeout_ms;
    let error = json!(format!(
        "the job ran longer than its executionTimeout of {limit} ms"
    ));
    Ok(Record {
        error: Some(error.to_string().into()),
        ..end(job, JobStatus::TimedOut, now)
    })
}

/// The job has lived for its `ttl`, or was kept for as long as results are: it goes.
pub(crate) fn expire(job: &Record, now: Moment) -> Result<(), Refusal> {
    let times_out = job.status == JobStatus::InProgress && job.expires > now;
    if times_out || job.due() > now {
        return Err(not_due(job));
    }
    Ok(())
}

/// A client purges the queue: a queued job goes.
pub(crate) fn purge(job: &Record) -> Result<(), Refusal> {
    in_queue(job)
}

// Parts that steps share.

fn end(job: &Record, status: JobStatus, now: Moment) -> Record {
    let next = job.successor();
    Record {
        status,
        ended: Some(now),
        // What was shown so far was progress, not a result.
        output: next.output.filter(|_| status == JobStatus::Failed),
        ..next
    }
}

fn requeue(job: &Record, now: Moment) -> Record {
    Record {
        status: JobStatus::InQueue,
        requeues: job.requeues + 1,
        queued: now,
        taken: None,
        ended: None,
        worker: None,
        output: None,
        error: None,
        chunks: ChunkMarks::default(),
        ..job.successor()
    }
}

fn held(job: &Record, worker_id: &str) -> Result<(), Refusal> {
    if job.is_held_by(worker_id) {
        return Ok(());
    }
    Err(Refusal::Conflict(format!(
        "job {} is not at worker {worker_id} any more",
        job.id
    )))
}

fn in_queue(job: &Record) -> Result<(), Refusal> {
    if job.status == JobStatus::InQueue {
        return Ok(());
    }
    Err(Refusal::Conflict(format!(
        "job {} is {}",
        job.id, job.status
    )))
}

fn not_due(job: &Record) -> Refusal {
    Refusal::Conflict(format!("job {} is not due yet", job.id))
}
