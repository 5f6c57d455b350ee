//! Notifications for calls that wait for a change of an endpoint. A notification is only a hint: waiting calls also
//! check again at intervals.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::engine::Id;

/// The notifications that follow from a commit.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
pub(crate) struct Hints {
    /// Set if jobs are in the queue.
    pub(crate) queued: bool,
    /// Set if a worker must cancel a job.
    pub(crate) stop: bool,
    /// Set if the first deadline has changed.
    pub(crate) due: bool,
    /// Set if a webhook call was created.
    pub(crate) call: bool,
}

/// The waiting calls of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// The watched jobs. The lock is never held across an await.
    jobs: Mutex<HashMap<Id, Arc<Watched>>>,
    /// Signals that jobs are in the queue. Each permit wakes one take.
    pub(crate) queued: Notify,
    pub(crate) stop: Notify,
    pub(crate) due: Notify,
    pub(crate) call: Notify,
    /// The number of changes so far.
    pub(crate) changes: watch::Sender<u64>,
}

/// A job with waiting calls.
#[derive(Debug, Default)]
struct Watched {
    changed: Notify,
    /// Set while a `/stream` call reads the job's chunks.
    is_read: AtomicBool,
}

impl Waiters {
    /// Wakes the calls that a change concerns.
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
        // Usually no console is open.
        if self.changes.receiver_count() > 0 {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Watches a job until the returned watch is dropped.
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

/// Keeps a job registered for notifications.
#[derive(Debug)]
pub(crate) struct Watch {
    waiters: Arc<Waiters>,
    id: Id,
    watched: Arc<Watched>,
}

impl Watch {
    /// Returns the notification for changes of the job.
    pub(crate) fn changed(&self) -> &Notify {
        &self.watched.changed
    }

    /// Claims the job's stream; `None` while another call reads it.
    pub(crate) fn claim_stream(&self) -> Option<StreamClaim> {
        let is_read = self.watched.is_read.swap(true, Ordering::AcqRel);
        (!is_read).then(|| StreamClaim(self.waiters.watch(&self.id)))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut jobs = self.waiters.jobs();
        // One reference is the table's, one is this watch's.
        if Arc::strong_count(&self.watched) <= 2 {
            jobs.remove(&self.id);
        }
    }
}

/// An exclusive claim on a job's stream, released on drop.
#[derive(Debug)]
pub(crate) struct StreamClaim(Watch);

impl Drop for StreamClaim {
    fn drop(&mut self) {
        self.0.watched.is_read.store(false, Ordering::Release);
        self.0.changed().notify_waiters();
    }
}
