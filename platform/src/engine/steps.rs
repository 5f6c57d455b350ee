//! The rules as pure steps: each returns the job's next record, or a refusal.
//!
//! A step that removes the job returns no record, only whether the job may be removed.

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

/// A new job.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) id: Id,
    /// The handler's input, as JSON text.
    pub(crate) input: Bytes,
    /// Further JSON members of the job for its worker, each preceded by a comma.
    pub(crate) extra: Bytes,
    pub(crate) execution_timeout: Duration,
    pub(crate) ttl: Duration,
    pub(crate) retention: Duration,
    /// The URL that is called once the job has ended.
    pub(crate) webhook: Option<String>,
}

/// A worker's result of a job.
#[derive(Debug)]
pub(crate) struct JobEnd<'a> {
    pub(crate) worker_id: &'a str,
    pub(crate) has_output: bool,
    /// The error, as JSON text; `None` if the job completed.
    pub(crate) error: Option<Arc<str>>,
}

/// A chunk sent by a worker.
#[derive(Debug)]
pub(crate) struct NewChunk<'a> {
    pub(crate) worker_id: &'a str,
    pub(crate) bytes: usize,
    /// The idempotency key, the same if the chunk is sent again.
    pub(crate) key: Option<&'a str>,
    /// The maximum size of a chunk, in bytes.
    pub(crate) limit: usize,
    /// The maximum size of all stored chunks of the job, in bytes.
    pub(crate) buffer: usize,
}

/// A worker that is lost, or that never received its job.
#[derive(Debug)]
pub(crate) struct LostWorker<'a> {
    pub(crate) worker_id: &'a str,
    /// The maximum number of hand-outs of a job.
    pub(crate) tries: u32,
    /// The error of a job that reaches it, with placeholders as in the rule `lost_error`.
    pub(crate) error: &'a str,
}

/// Chunks that a client of `/stream` has received.
#[derive(Debug)]
pub(crate) struct ReadMark<'a> {
    /// The `requeues` of the record from which the client's response was made.
    pub(crate) requeues: u32,
    /// The number of chunks before these.
    pub(crate) from: usize,
    pub(crate) chunks: &'a [Bytes],
}

/// Creates the record of a job that a client submits.
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

/// Hands out a queued job to a worker.
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

/// Returns a job to the queue because the response with it did not reach the worker, as if it had not been handed out.
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

/// Records that the worker listed the job in a heartbeat.
pub(crate) fn name(job: &Record, now: Moment, worker_id: &str) -> Stepped {
    held(job, worker_id)?;
    Ok(Record {
        named: now,
        ..job.successor()
    })
}

/// Records progress that the worker reports.
pub(crate) fn progress(job: &Record, now: Moment, worker_id: &str, has_output: bool) -> Stepped {
    held(job, worker_id)?;
    let next = job.successor();
    Ok(Record {
        output: has_output.then_some(next.version),
        named: now,
        ..next
    })
}

/// Ends the job with the result that the worker reports.
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

/// Adds a chunk. A chunk with the same key as the last one is not added again: its worker did not learn that it was
/// accepted, and posted it again.
pub(crate) fn chunk(job: &Record, now: Moment, chunk: &NewChunk<'_>) -> Stepped {
    held(job, chunk.worker_id)?;
    if chunk.bytes > chunk.limit {
        return Err(Refusal::TooLarge(format!(
            "the chunk has {} bytes and exceeds the limit of {} bytes",
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
            "the job's stream buffer is full: {} bytes are unread, the limit is {} bytes; read /stream while the job \
             runs",
            chunks.bytes, chunk.buffer
        )));
    }
    chunks.count += 1;
    chunks.bytes += chunk.bytes;
    chunks.last_key = chunk.key.map(Into::into);
    Ok(next)
}

/// Marks chunks as delivered to a client of `/stream`.
pub(crate) fn read(job: &Record, mark: &ReadMark<'_>) -> Stepped {
    let upto = mark.from + mark.chunks.len();
    let already = job.chunks.read.saturating_sub(mark.from);
    if job.requeues != mark.requeues || upto <= job.chunks.read || upto > job.chunks.count {
        return Err(Refusal::Conflict(format!(
            "job {}: the chunks were already delivered or belong to an earlier run",
            job.id
        )));
    }
    let mut next = job.successor();
    next.chunks.read = upto;
    next.chunks.read_bytes += mark.chunks[already..].iter().map(Bytes::len).sum::<usize>();
    Ok(next)
}

/// Cancels the job for a client.
pub(crate) fn cancel(job: &Record, now: Moment) -> Stepped {
    if job.status.is_final() {
        return Err(Refusal::Conflict(format!("job {} already ended", job.id)));
    }
    Ok(end(job, JobStatus::Cancelled, now))
}

/// Requeues a failed or timed-out job for a client.
pub(crate) fn retry(job: &Record, now: Moment) -> Stepped {
    if !matches!(job.status, JobStatus::Failed | JobStatus::TimedOut) {
        return Err(Refusal::Bad(format!(
            "cannot retry job {}: its status is {}, expected FAILED or TIMED_OUT",
            job.id, job.status
        )));
    }
    Ok(Record {
        tries: 0,
        ..requeue(job, now)
    })
}

/// Lets the job expire `ttl` from now, unless it expires earlier.
pub(crate) fn shorten(job: &Record, now: Moment, ttl: Duration) -> Record {
    Record {
        expires: job.expires.min(now + ttl),
        ..job.successor()
    }
}

/// Requeues a job whose worker is lost or never received it. After the allowed hand-outs, the job fails instead.
pub(crate) fn lose(job: &Record, now: Moment, lost: &LostWorker<'_>) -> Stepped {
    held(job, lost.worker_id)?;
    if job.tries < lost.tries {
        return Ok(requeue(job, now));
    }
    let error = lost
        .error
        .replace("{tries}", &job.tries.to_string())
        .replace("{retries}", &job.tries.saturating_sub(1).to_string())
        .replace("{worker}", lost.worker_id);
    Ok(Record {
        error: Some(json!(error).to_string().into()),
        ..end(job, JobStatus::Failed, now)
    })
}

/// Ends a job that has reached its `executionTimeout`.
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

/// Returns whether the job may be removed, because its `ttl` or the retention of its result is over.
pub(crate) fn expire(job: &Record, now: Moment) -> Result<(), Refusal> {
    let times_out = job.status == JobStatus::InProgress && job.expires > now;
    if times_out || job.due() > now {
        return Err(not_due(job));
    }
    Ok(())
}

/// Returns whether the job is queued, so that a purge may remove it.
pub(crate) fn purge(job: &Record) -> Result<(), Refusal> {
    in_queue(job)
}

// Shared parts of the steps.

fn end(job: &Record, status: JobStatus, now: Moment) -> Record {
    let next = job.successor();
    Record {
        status,
        ended: Some(now),
        // Until the end, the output is progress and not a result; only a failed job keeps it.
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
        "job {} is not assigned to worker {worker_id}",
        job.id
    )))
}

fn in_queue(job: &Record) -> Result<(), Refusal> {
    if job.status == JobStatus::InQueue {
        return Ok(());
    }
    Err(Refusal::Conflict(format!(
        "job {} is {}, not IN_QUEUE",
        job.id, job.status
    )))
}

fn not_due(job: &Record) -> Refusal {
    Refusal::Conflict(format!("job {} is not due yet", job.id))
}
