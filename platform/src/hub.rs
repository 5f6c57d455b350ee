//! An endpoint among connections: its state machine behind a lock, and all who wait for it to change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::core::{Changes, Endpoint, Refusal};
use crate::settings::Settings;

/// One endpoint, shared by all its connections.
#[derive(Debug)]
pub(crate) struct Hub {
    // Neither is ever held across an await.
    endpoint: Mutex<Endpoint>,
    watched: Mutex<HashMap<String, Arc<Notify>>>,
    /// A job came into the queue; one permit for one taker.
    queued: Notify,
    /// Some worker has a job to stop.
    stops: Notify,
    /// The next deadline may have changed.
    deadline: Notify,
    closing: CancellationToken,
}

impl Hub {
    /// Starts an endpoint, whose clock runs until `closing`.
    pub(crate) fn start(settings: Settings, closing: CancellationToken) -> Arc<Self> {
        let hub = Arc::new(Self {
            endpoint: Mutex::new(Endpoint::new(settings)),
            watched: Mutex::default(),
            queued: Notify::new(),
            stops: Notify::new(),
            deadline: Notify::new(),
            closing,
        });
        tokio::spawn({
            let hub = Arc::clone(&hub);
            async move { hub.closing.run_until_cancelled(hub.keep_time()).await }
        });
        hub
    }

    async fn keep_time(&self) {
        loop {
            let changed = self.deadline.notified();
            match self.read(Endpoint::next_deadline) {
                None => changed.await,
                Some(at) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(at) => self.change(Endpoint::expire),
                    }
                }
            }
        }
    }

    fn endpoint(&self) -> MutexGuard<'_, Endpoint> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the endpoint.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Endpoint) -> T) -> T {
        look(&self.endpoint())
    }

    /// Changes the endpoint, and wakes whom that concerns.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Endpoint, Instant) -> T) -> T {
        let (result, changes, moved) = {
            let mut endpoint = self.endpoint();
            let before = endpoint.next_deadline();
            let result = change(&mut endpoint, Instant::now());
            (
                result,
                endpoint.take_changes(),
                endpoint.next_deadline() != before,
            )
        };
        self.wake(&changes);
        if moved {
            self.deadline.notify_one();
        }
        result
    }

    fn wake(&self, changes: &Changes) {
        for _ in 0..changes.queued {
            self.queued.notify_one();
        }
        if changes.stops {
            self.stops.notify_waiters();
        }
        if changes.jobs.is_empty() {
            return;
        }
        let watched = self.watched();
        for id in &changes.jobs {
            if let Some(watch) = watched.get(id) {
                watch.notify_waiters();
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries until there is an answer, again after each change of the job; `None` once the platform closes.
    pub(crate) async fn until_job<T>(
        &self,
        id: &str,
        mut attempt: impl FnMut(&Self) -> Result<Option<T>, Refusal>,
    ) -> Option<Result<T, Refusal>> {
        let watch = Watch::of(self, id);
        self.until(&watch.notify, || attempt(self).transpose())
            .await
    }

    /// Tries until there is an answer, again whenever a job came into the queue; `None` once the platform closes.
    pub(crate) async fn until_queued<T>(
        &self,
        mut attempt: impl FnMut(&Self) -> Option<T>,
    ) -> Option<T> {
        self.until(&self.queued, || attempt(self)).await
    }

    /// Tries until there is an answer, again whenever there is a job to stop; `None` once the platform closes.
    pub(crate) async fn until_stops<T>(
        &self,
        mut attempt: impl FnMut(&Self) -> Option<T>,
    ) -> Option<T> {
        self.until(&self.stops, || attempt(self)).await
    }

    async fn until<T>(&self, notify: &Notify, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        let trying = async {
            loop {
                // Before the attempt: what changes meanwhile is not missed.
                let changed = notify.notified();
                if let Some(answer) = attempt() {
                    return answer;
                }
                changed.await;
            }
        };
        self.closing.run_until_cancelled(trying).await
    }
}

/// Keeps a job among those whose changes are told of, as long as somebody waits.
struct Watch<'a> {
    hub: &'a Hub,
    id: &'a str,
    notify: Arc<Notify>,
}

impl<'a> Watch<'a> {
    fn of(hub: &'a Hub, id: &'a str) -> Self {
        let notify = Arc::clone(hub.watched().entry(id.to_owned()).or_default());
        Self { hub, id, notify }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut watched = self.hub.watched();
        // One is the table's, one is ours.
        if Arc::strong_count(&self.notify) <= 2 {
            watched.remove(self.id);
        }
    }
}
