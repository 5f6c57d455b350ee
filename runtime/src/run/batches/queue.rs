//! The queue of jobs that wait for their batch.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::handler::{Batching, Context, Outcome, Weighing};

use super::Release;

/// A job that waits for others.
pub(super) struct WaitingJob<T> {
    pub(super) since: Instant,
    /// 0 where jobs are not weighed.
    pub(super) weight: usize,
    pub(super) input: T,
    pub(super) context: Context,
    pub(super) answer: oneshot::Sender<Outcome>,
    pub(super) release: Release,
}

impl<T> WaitingJob<T> {
    /// Whether nobody waits for its outcome any longer.
    pub(super) fn has_left(&self) -> bool {
        self.answer.is_closed()
    }
}

/// The jobs that wait, in the order in which they came.
pub(super) struct Queue<T>(VecDeque<WaitingJob<T>>);

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

/// The jobs at the queue's front that would make the next batch.
pub(super) struct NextBatch {
    pub(super) jobs: usize,
    /// There is no room for the job behind them.
    pub(super) full: bool,
}

impl<T> Queue<T> {
    /// Adds a job. Returns whether that may make a batch ready: jobs between the first and the last of a batch do not.
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
            // A job that is too heavy for any batch goes alone.
            if weight > max && jobs > 0 {
                return NextBatch { jobs, full: true };
            }
        }
        NextBatch {
            jobs: most,
            full: full || weight >= max,
        }
    }

    /// Takes the first `jobs` out.
    pub(super) fn take(&mut self, jobs: usize) -> Vec<WaitingJob<T>> {
        self.0.drain(..jobs).collect()
    }

    /// Takes out a job whose outcome nobody waits for.
    pub(super) fn remove_left(&mut self) -> Option<WaitingJob<T>> {
        let at = self.0.iter().position(WaitingJob::has_left)?;
        self.0.remove(at)
    }
}
