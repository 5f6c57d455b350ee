//! A worker's record, and its steps.

use std::time::Duration;

use serde::Serialize;

use super::moment::Moment;

/// A worker, by what it has shown of itself. The jobs that it holds are an index of the job records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerRecord {
    /// When it was heard of, or opened or closed a poll.
    pub(crate) seen: Moment,
    /// Take and stop polls that are open now: while there is one, the worker is there.
    pub(crate) polls: u32,
    pub(crate) stance: Stance,
    /// The worker says so itself.
    pub(crate) unhealthy: bool,
    /// When the worker is lost unless it is heard of; `None` while a poll is open.
    pub(crate) lost: Option<Moment>,
}

/// How a worker stands to further jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stance {
    /// It has not asked for any yet.
    New,
    /// It has asked, and is given some.
    Ready,
    /// It asks, and is given none since enough others are.
    Throttled,
    /// It has asked to be replaced.
    Leaving,
}

/// What a worker does.
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

/// When a worker was heard of, and how long it may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) now: Moment,
    pub(crate) silence: Duration,
}

impl WorkerRecord {
    /// The record of a worker that has just been heard of, for the first time where there was none. While a poll is open
    /// it is the same: the worker is there.
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

    /// The worker opens a take or stop poll.
    pub(crate) fn opens_poll(before: Option<Self>, heard: Heard, takes: bool) -> Self {
        let mut next = Self::heard(before, heard);
        next.polls += 1;
        if takes {
            next.stance = Stance::Ready;
            next.unhealthy = false;
        }
        next.seen_now(heard)
    }

    /// A poll of the worker has ended, however it did.
    pub(crate) fn closes_poll(mut self, heard: Heard) -> Self {
        self.polls = self.polls.saturating_sub(1);
        self.seen_now(heard)
    }

    /// Whether nothing is left of a worker that leaves.
    pub(crate) fn has_left(&self, jobs: usize) -> bool {
        self.stance == Stance::Leaving && self.polls == 0 && jobs == 0
    }

    /// What the worker does, with so many jobs.
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
