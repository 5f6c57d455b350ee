//! The workers that an endpoint has heard of.

use std::collections::{BTreeSet, HashMap};

use podwork_protocol::client::WorkerCounts;
use tokio::time::Instant;

/// One worker, by what it has shown of itself.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) seen: Instant,
    /// Its take and stop polls that are open now: while there is one, it is there.
    pub(crate) polls: usize,
    pub(crate) jobs: BTreeSet<String>,
    /// Ids of jobs it is to stop, until a stop poll has carried them.
    pub(crate) stops: BTreeSet<String>,
    /// It has asked for jobs.
    pub(crate) ready: bool,
    pub(crate) unhealthy: bool,
}

impl Worker {
    fn new(now: Instant) -> Self {
        Self {
            seen: now,
            polls: 0,
            jobs: BTreeSet::new(),
            stops: BTreeSet::new(),
            ready: false,
            unhealthy: false,
        }
    }
}

/// The workers, by id.
#[derive(Debug, Default)]
pub(crate) struct Workers(HashMap<String, Worker>);

impl Workers {
    /// Most that are kept in mind: ids come from the network.
    const MOST: usize = 10_000;

    /// The worker of this id, which has just been heard of; `None` where there are too many.
    pub(crate) fn heard(&mut self, id: &str, now: Instant) -> Option<&mut Worker> {
        if self.0.len() >= Self::MOST && !self.0.contains_key(id) {
            return None;
        }
        let worker = self
            .0
            .entry(id.to_owned())
            .or_insert_with(|| Worker::new(now));
        worker.seen = now;
        Some(worker)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Worker> {
        self.0.get_mut(id)
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Worker> {
        self.0.remove(id)
    }

    pub(crate) fn counts(&self) -> WorkerCounts {
        let mut counts = WorkerCounts::default();
        for worker in self.0.values() {
            if worker.unhealthy {
                counts.unhealthy += 1;
            } else if !worker.jobs.is_empty() {
                counts.running += 1;
            } else if worker.ready {
                counts.idle += 1;
            } else {
                counts.initializing += 1;
            }
        }
        counts.ready = counts.idle + counts.running;
        counts
    }
}
