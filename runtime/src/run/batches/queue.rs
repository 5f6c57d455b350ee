//! The queue of jobs that wait for their batch.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::handler::{Batching, Context, Outcome, Weighing};

use super::Release;

/// A job that waits for others.
pub(super) struct WaitingJob<T> {
    pub(super) since: Instant,
    /// The weight of the job, or 0 if the handler defines no weight.
    pub(super) weight: usize,
    pub(super) input: T,
    pub(super) context: Context,
    pub(super) answer: oneshot::Sender<Outcome>,
    pub(super) release: Release,
}

impl<T> WaitingJob<T> {
    /// Returns whether the job has left: its outcome is no longer awaited.
    pub(super) fn has_left(&self) -> bool {
        self.answer.is_closed()
    }
}

/// The waiting jobs, in the order of their arrival.
pub(super) struct Queue<T>(VecDeque<WaitingJob<T>>);

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

/// The size of the next batch, which consists of the jobs at the front of the queue.
pub(super) struct NextBatch {
    pub(super) jobs: usize,
    /// The batch has no room for another job.
    pub(super) full: bool,
}

impl<T> Queue<T> {
    /// Adds a job. Returns whether a batch may now be ready. Only the first and the last job of a batch can make it so.
    pub(super) fn push<S>(&mut self, job: WaitingJob<T>, batching: &Batching<S, T>) -> bool {
        self.0.push_back(job);
        self.0.len() == 1 || self.next_batch(batching).full
    }

    pub(super) fn first(&self) -> Option<&WaitingJob<T>> {
        self.0.front()
    }

    pub(super) fn next_batch<S>(&self, batching: &Batching<S, T>) -> NextBatch {
        let most = self.0.len().min(batching.max_batch);
        let full = most == batching.max_batch;
        let Some(Weighing { max, .. }) = batching.weighing else {
            return NextBatch { jobs: most, full };
        };
        let mut weight = 0_usize;
        for (jobs, job) in self.0.iter().take(most).enumerate() {
            weight = weight.saturating_add(job.weight);
            // A job that is too heavy for any batch runs alone.
            if weight > max && jobs > 0 {
                return NextBatch { jobs, full: true };
            }
        }
        NextBatch {
            jobs: most,
            full: full || weight >= max,
        }
    }

    /// Removes and returns the first `jobs` jobs.
    pub(super) fn take(&mut self, jobs: usize) -> Vec<WaitingJob<T>> {
        self.0.drain(..jobs).collect()
    }

    /// Removes and returns a job that has left, if there is one.
    pub(super) fn remove_left(&mut self) -> Option<WaitingJob<T>> {
        let at = self.0.iter().position(WaitingJob::has_left)?;
        self.0.remove(at)
    }
}
