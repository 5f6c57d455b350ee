//! The index changes that follow from a step.

use podwork_protocol::JobStatus;

use super::moment::Moment;
use super::record::{Id, Record};

/// Everything that a commit changes besides the record itself. Stores only apply it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Delta<'a> {
    pub(crate) queue: Option<QueueChange>,
    /// The job's deadline before and after the commit.
    pub(crate) due: (Option<Moment>, Option<Moment>),
    /// The worker that no longer holds the job.
    pub(crate) released: Option<&'a Id>,
    /// The worker that now holds the job.
    pub(crate) held: Option<&'a Id>,
    /// The worker that must cancel the job.
    pub(crate) stop: Option<&'a Id>,
    pub(crate) counts: CountChange,
    /// Set if the commit creates a webhook call.
    pub(crate) call: bool,
    /// Set if the job is new and joins the list of the latest jobs.
    pub(crate) submitted: bool,
    /// Set if the commit's payload replaces the output, or if the output is removed.
    pub(crate) output: bool,
    pub(crate) chunks: ChunkChange,
}

/// The change of the job's position in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueChange {
    Last,
    /// The job goes to the front, since it was in the queue before.
    First,
    Out,
}

/// The changes of the job counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CountChange {
    pub(crate) in_progress: i64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) retried: u64,
}

/// The change of the stored chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ChunkChange {
    #[default]
    Keep,
    /// Appends the commit's payload, and removes the first `gone` chunks.
    Push {
        gone: usize,
    },
    Clear,
}

/// Returns the index changes from one record to the next. `None` stands for a job that does not exist before or after.
pub(crate) fn delta<'a>(before: Option<&'a Record>, after: Option<&'a Record>) -> Delta<'a> {
    let was = |status| before.is_some_and(|job| job.status == status);
    let is = |status| after.is_some_and(|job| job.status == status);
    let became = |status| is(status) && !was(status);
    let queue = match (was(JobStatus::InQueue), is(JobStatus::InQueue)) {
        (false, true) if was(JobStatus::InProgress) => Some(QueueChange::First),
        (false, true) => Some(QueueChange::Last),
        (true, false) => Some(QueueChange::Out),
        _ => None,
    };
    let (holder, taker) = (
        before.and_then(Record::holder),
        after.and_then(Record::holder),
    );
    let moved = holder != taker;
    let ended_by_itself = is(JobStatus::Completed) || is(JobStatus::Failed);
    let stops = taker.is_none() && !ended_by_itself && !is(JobStatus::InQueue);
    let requeues = |job: &Record| u64::from(job.requeues);
    let ended = after.is_some_and(|job| job.status.is_final() && job.webhook.is_some());
    Delta {
        queue,
        due: (before.map(Record::due), after.map(Record::due)),
        released: holder.filter(|_| moved),
        held: taker.filter(|_| moved),
        stop: holder.filter(|_| stops),
        counts: CountChange {
            in_progress: i64::from(taker.is_some()) - i64::from(holder.is_some()),
            completed: u64::from(became(JobStatus::Completed)),
            failed: u64::from(became(JobStatus::Failed) || became(JobStatus::TimedOut)),
            retried: after.map_or(0, |after| {
                requeues(after).saturating_sub(before.map_or(0, requeues))
            }),
        },
        call: ended && before.is_some_and(|job| !job.status.is_final()),
        submitted: before.is_none(),
        output: after.is_some_and(|after| after.output != before.and_then(|job| job.output)),
        chunks: chunk_change(before, after),
    }
}

fn chunk_change(before: Option<&Record>, after: Option<&Record>) -> ChunkChange {
    let (Some(before), Some(after)) = (before, after) else {
        return ChunkChange::Keep;
    };
    let (before, after) = (&before.chunks, &after.chunks);
    if after.count < before.count {
        return ChunkChange::Clear;
    }
    if after.count == before.count {
        return ChunkChange::Keep;
    }
    ChunkChange::Push {
        gone: after.gone - before.gone,
    }
}
