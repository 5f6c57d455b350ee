//! A worker's record, and its steps.

use std::time::Duration;

use serde::Serialize;

use super::moment::Moment;

/// A worker, by what it has shown of itself. The jobs that it holds are an index of the job records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Worker {
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

impl Worker {
    /// The record of a worker that has just been heard of, for the first time where there was none.
    pub(crate) fn heard(before: Option<Self>, heard: Heard) -> Self {
        let before = before.unwrap_or(Self {
            seen: heard.now,
            polls: 0,
            stance: Stance::New,
            unhealthy: false,
            lost: None,
        });
        Self {
            seen: heard.now,
            ..before
        }
        .watched(heard.silence)
    }

    /// The worker opens a take or stop poll.
    pub(crate) fn opens_poll(before: Option<Self>, heard: Heard, takes: bool) -> Self {
        let next = Self::heard(before, heard);
        let next = Self {
            polls: next.polls + 1,
            ..next
        };
        let ready = Self {
            stance: Stance::Ready,
            unhealthy: false,
            ..next
        };
        if takes { ready } else { next }.watched(heard.silence)
    }

    /// A poll of the worker has ended, however it did.
    pub(crate) fn closes_poll(self, heard: Heard) -> Self {
        Self {
            polls: self.polls.saturating_sub(1),
            ..Self::heard(Some(self), heard)
        }
        .watched(heard.silence)
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

    fn watched(self, silence: Duration) -> Self {
        Self {
            lost: (self.polls == 0).then(|| self.seen + silence),
            ..self
        }
    }
}
