//! The workers that an endpoint has heard of.

use std::collections::{BTreeSet, HashMap};

use podwork_protocol::client::WorkerCounts;
use serde::Serialize;
use tokio::time::Instant;

use super::job::Id;
use super::shrink::shrink;

/// One worker, by what it has shown of itself.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) seen: Instant,
    /// Its take and stop polls that are open now: while there is one, it is there.
    pub(crate) polls: usize,
    pub(crate) jobs: BTreeSet<Id>,
    /// Ids of jobs it is to stop, until a stop poll has carried them.
    pub(crate) stops: BTreeSet<Id>,
    pub(crate) stance: Stance,
    /// It says so itself.
    pub(crate) unhealthy: bool,
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

impl Worker {
    fn new(now: Instant) -> Self {
        Self {
            seen: now,
            polls: 0,
            jobs: BTreeSet::new(),
            stops: BTreeSet::new(),
            stance: Stance::New,
            unhealthy: false,
        }
    }
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

impl Worker {
    fn state(&self) -> WorkerState {
        match self.stance {
            _ if self.unhealthy => WorkerState::Unhealthy,
            _ if !self.jobs.is_empty() => WorkerState::Running,
            Stance::New => WorkerState::Initializing,
            Stance::Ready => WorkerState::Idle,
            Stance::Throttled => WorkerState::Throttled,
            Stance::Leaving => WorkerState::Leaving,
        }
    }
}

/// One worker in a list.
#[derive(Debug, Serialize)]
pub(crate) struct WorkerLine {
    id: String,
    state: WorkerState,
    jobs: usize,
    /// How long nothing was heard of it, ms.
    silent: u64,
}

/// The workers, by id.
#[derive(Debug, Default)]
pub(crate) struct Workers(HashMap<Id, Worker>);

impl Workers {
    /// Most that are kept in mind: ids come from the network.
    const MOST: usize = 10_000;
    /// Most that are listed.
    const MOST_SEEN: usize = 100;

    /// The worker of this id, which has just been heard of; `None` where there are too many.
    pub(crate) fn heard(&mut self, id: &str, now: Instant) -> Option<&mut Worker> {
        if self.0.len() >= Self::MOST && !self.0.contains_key(id) {
            return None;
        }
        let worker = self.0.entry(id.into()).or_insert_with(|| Worker::new(now));
        worker.seen = now;
        Some(worker)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Worker> {
        self.0.get_mut(id)
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Worker> {
        let worker = self.0.remove(id);
        shrink(&mut self.0);
        worker
    }

    /// How many others are given jobs.
    pub(crate) fn others_ready(&self, id: &str) -> usize {
        let others = self.0.iter().filter(|(other, _)| ***other != *id);
        others
            .filter(|(_, worker)| worker.stance == Stance::Ready)
            .count()
    }

    /// Each of them, by id; as many as fit on a page.
    pub(crate) fn seen(&self, since: impl Fn(Instant) -> u64) -> Vec<WorkerLine> {
        let mut seen: Vec<WorkerLine> = self
            .0
            .iter()
            .map(|(id, worker)| WorkerLine {
                id: id.to_string(),
                state: worker.state(),
                jobs: worker.jobs.len(),
                silent: if worker.polls > 0 {
                    0
                } else {
                    since(worker.seen)
                },
            })
            .collect();
        seen.sort_by(|one, other| one.id.cmp(&other.id));
        seen.truncate(Self::MOST_SEEN);
        seen
    }

    pub(crate) fn counts(&self) -> WorkerCounts {
        let mut counts = WorkerCounts::default();
        for worker in self.0.values() {
            match worker.state() {
                WorkerState::Unhealthy => counts.unhealthy += 1,
                WorkerState::Running => counts.running += 1,
                WorkerState::Idle => counts.idle += 1,
                WorkerState::Throttled => counts.throttled += 1,
                WorkerState::Leaving => {}
                WorkerState::Initializing => counts.initializing += 1,
            }
        }
        counts.ready = counts.idle + counts.running;
        counts
    }
}
