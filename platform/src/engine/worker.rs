//! A worker's record and its steps.

use std::time::Duration;

use serde::Serialize;

use super::moment::Moment;

/// The known state of a worker. The jobs that it holds are an index of the job records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerRecord {
    /// The time of the worker's last call, or of the last poll opened or closed.
    pub(crate) seen: Moment,
    /// The number of open take and stop polls. A worker with an open poll is alive.
    pub(crate) polls: u32,
    pub(crate) stance: Stance,
    /// Set if the worker reported itself as unhealthy.
    pub(crate) unhealthy: bool,
    /// The time at which the worker is lost if it makes no call until then; `None` while a poll is open.
    pub(crate) lost: Option<Moment>,
}

/// A worker's eligibility for further jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stance {
    /// The worker has not polled for jobs yet.
    New,
    /// The worker polls and is given jobs.
    Ready,
    /// The worker polls but is given no jobs, because the worker limit is reached.
    Throttled,
    /// The worker asked to be replaced.
    Leaving,
}

/// The state of a worker as shown by `/health` and the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WorkerState {
    Unhealthy,
    Running,
    Idle,
    Throttled,
    Leaving,
    Initializing,
}

/// The time of a worker's call, and the limit on its silence.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) now: Moment,
    pub(crate) silence: Duration,
}

impl WorkerRecord {
    /// Returns the record of a worker after a call; `before` is `None` if the worker is unknown. While a poll is open,
    /// the record does not change, since the poll shows that the worker is alive.
    pub(crate) fn heard(before: Option<Self>, heard: Heard) -> Self {
        match before {
            Some(worker) if worker.polls > 0 => worker,
            Some(worker) => worker.seen_now(heard),
            None => Self {
                seen: heard.now,
                polls: 0,
                stance: Stance::New,
                unhealthy: false,
                lost: None,
            }
            .seen_now(heard),
        }
    }

    /// Returns the record after the worker opened a take poll (`takes`) or a stop poll.
    pub(crate) fn opens_poll(before: Option<Self>, heard: Heard, takes: bool) -> Self {
        let mut next = Self::heard(before, heard);
        next.polls += 1;
        if takes {
            next.stance = Stance::Ready;
            next.unhealthy = false;
        }
        next.seen_now(heard)
    }

    /// Returns the record after a poll of the worker ended, for whatever reason.
    pub(crate) fn closes_poll(mut self, heard: Heard) -> Self {
        self.polls = self.polls.saturating_sub(1);
        self.seen_now(heard)
    }

    /// Returns whether a leaving worker has no poll and no job left.
    pub(crate) fn has_left(&self, jobs: usize) -> bool {
        self.stance == Stance::Leaving && self.polls == 0 && jobs == 0
    }

    /// Returns the state of a worker that holds `jobs` jobs.
    pub(crate) fn state(&self, jobs: usize) -> WorkerState {
        match self.stance {
            _ if self.unhealthy => WorkerState::Unhealthy,
            _ if jobs > 0 => WorkerState::Running,
            Stance::New => WorkerState::Initializing,
            Stance::Ready => WorkerState::Idle,
            Stance::Throttled => WorkerState::Throttled,
            Stance::Leaving => WorkerState::Leaving,
        }
    }

    fn seen_now(self, heard: Heard) -> Self {
        Self {
            seen: heard.now,
            lost: (self.polls == 0).then(|| heard.now + heard.silence),
            ..self
        }
    }
}
