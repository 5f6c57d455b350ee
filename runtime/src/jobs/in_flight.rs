//! The jobs that this worker holds: from the moment they are taken until their last post is accepted, or they are
//! stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// How one job is brought to an end from outside.
#[derive(Debug, Clone)]
pub(crate) struct Reins {
    /// The platform wants it stopped: nothing of it is posted any more.
    pub(crate) stop: CancellationToken,
    /// The worker's own time is over: it fails, and what cannot be ended is left behind.
    pub(crate) over: CancellationToken,
    /// What its handler sees of both, and of its timeout.
    pub(crate) halt: CancellationToken,
}

impl Reins {
    /// Reins of one job; `over` is the worker's.
    pub(crate) fn new(over: CancellationToken) -> Self {
        let stop = CancellationToken::new();
        let halt = stop.child_token();
        Self { stop, over, halt }
    }
}

/// The jobs held, by id.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    // Never held across an await.
    jobs: Mutex<BTreeMap<String, Reins>>,
    /// Jobs completed since the open poll began. If that poll brings one of them, it was handed out again before its
    /// result came in. (A failed job is none of these: it may well be retried.)
    completed: Mutex<BTreeSet<String>>,
}

/// Keeps one job among those held until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    in_flight: Arc<InFlight>,
    id: String,
}

impl InFlight {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Reins>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn completed(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.completed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A poll begins.
    pub(crate) fn polling(&self) {
        self.completed().clear();
    }

    /// Notes a job as held; `None` when it is held already, or was until just now.
    pub(crate) fn hold(self: &Arc<Self>, id: &str, reins: Reins) -> Option<Held> {
        let mut jobs = self.jobs();
        if jobs.contains_key(id) || self.completed().contains(id) {
            return None;
        }
        jobs.insert(id.to_owned(), reins);
        Some(Held {
            in_flight: Arc::clone(self),
            id: id.to_owned(),
        })
    }

    /// Tells a job to stop; whether it is held at all.
    pub(crate) fn stop(&self, id: &str) -> bool {
        let reins = self.jobs().get(id).cloned();
        if let Some(reins) = &reins {
            reins.stop.cancel();
        }
        reins.is_some()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.jobs().keys().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.jobs().len()
    }
}

impl Held {
    /// Its result was accepted, and it is no error.
    pub(crate) fn completed(self) {
        self.in_flight.completed().insert(self.id.clone());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.in_flight.jobs().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_held_once_until_it_is_let_go() {
        let in_flight = Arc::new(InFlight::default());
        let reins = Reins::new(CancellationToken::new());
        let held = in_flight.hold("a", reins.clone()).unwrap();
        assert!(in_flight.hold("a", reins.clone()).is_none());
        assert!(!reins.halt.is_cancelled());
        assert!(in_flight.stop("a") && reins.stop.is_cancelled());
        assert!(reins.halt.is_cancelled() && !reins.over.is_cancelled());
        assert!(!in_flight.stop("b"));
        assert_eq!(in_flight.ids(), ["a"]);
        drop(held);
        assert_eq!(in_flight.len(), 0);

        let again = || in_flight.hold("a", reins.clone());
        again()
            .expect("a job that failed may come again")
            .completed();
        assert!(
            again().is_none(),
            "handed out again before it was completed"
        );
        in_flight.polling();
        assert!(again().is_some());
    }
}
