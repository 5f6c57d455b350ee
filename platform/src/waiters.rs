//! Everybody who waits for an endpoint to change. A wake-up is a hint: who waits looks again by itself, too.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::engine::Id;

/// What a commit means to those who wait.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "any of them may be so")]
pub(crate) struct Hints {
    /// Jobs wait in the queue.
    pub(crate) queued: bool,
    /// Some worker has a job to stop.
    pub(crate) stop: bool,
    /// Something is due earlier, or later, than before.
    pub(crate) due: bool,
    /// A webhook call is to be made.
    pub(crate) call: bool,
}

/// Those who wait for one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Never held across an await.
    jobs: Mutex<HashMap<Id, Arc<Watched>>>,
    /// Jobs wait in the queue; one permit for one taker.
    pub(crate) queued: Notify,
    pub(crate) stop: Notify,
    pub(crate) due: Notify,
    pub(crate) call: Notify,
    /// Counts all changes.
    pub(crate) changes: watch::Sender<u64>,
}

/// A job that somebody waits for.
#[derive(Debug, Default)]
struct Watched {
    changed: Notify,
    /// A `/stream` answer is on its way to its client.
    is_read: AtomicBool,
}

impl Waiters {
    /// Wakes those whom a change concerns.
    pub(crate) fn wake(&self, job_id: Option<&str>, hints: Hints) {
        if hints.queued {
            self.queued.notify_one();
        }
        if hints.stop {
            self.stop.notify_waiters();
        }
        if hints.due {
            self.due.notify_one();
        }
        if hints.call {
            self.call.notify_one();
        }
        if let Some(watched) = job_id.and_then(|id| self.jobs().get(id).cloned()) {
            watched.changed.notify_waiters();
        }
        // As a rule nobody looks at the console.
        if self.changes.receiver_count() > 0 {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Watches a job for as long as the watch lives.
    pub(crate) fn watch(self: &Arc<Self>, id: &str) -> Watch {
        let id = Id::from(id);
        let watched = Arc::clone(self.jobs().entry(Id::clone(&id)).or_default());
        Watch {
            waiters: Arc::clone(self),
            id,
            watched,
        }
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<Id, Arc<Watched>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a job among those whose changes wake somebody.
#[derive(Debug)]
pub(crate) struct Watch {
    waiters: Arc<Waiters>,
    id: Id,
    watched: Arc<Watched>,
}

impl Watch {
    /// Wakes once the job changes.
    pub(crate) fn changed(&self) -> &Notify {
        &self.watched.changed
    }

    /// Claims the job's stream; `None` while somebody else reads it.
    pub(crate) fn claim_stream(&self) -> Option<StreamClaim> {
        let is_read = self.watched.is_read.swap(true, Ordering::AcqRel);
        (!is_read).then(|| StreamClaim(self.waiters.watch(&self.id)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut jobs = self.waiters.jobs();
        // One is the table's, one is ours.
        if Arc::strong_count(&self.watched) <= 2 {
            jobs.remove(&self.id);
        }
    }
}

/// While it lives, nobody else reads the job's stream.
#[derive(Debug)]
pub(crate) struct StreamClaim(Watch);

impl Drop for StreamClaim {
    fn drop(&mut self) {
        self.0.watched.is_read.store(false, Ordering::Release);
        self.0.changed().notify_waiters();
    }
}
