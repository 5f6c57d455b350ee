//! An endpoint among connections: its state machine behind a lock, and all who wait for it to change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::engine::{Changes, Endpoint, Overview, Refusal};
use crate::rules::Rules;
use crate::webhooks::{Call, Webhooks};

/// One endpoint, shared by all its connections.
#[derive(Debug)]
pub(crate) struct EndpointHandle {
    // Neither is ever held across an await.
    endpoint: Mutex<Endpoint>,
    watched: Mutex<HashMap<String, Arc<Notify>>>,
    rules: Arc<Rules>,
    /// A job came into the queue; one permit for one taker.
    queued: Notify,
    /// Some worker has a job to stop.
    stops: Notify,
    /// The next deadline may have changed.
    deadline: Notify,
    /// Counts all changes.
    changes: watch::Sender<u64>,
    clock: Clock,
    webhooks: Webhooks,
    run_rate: Option<DefaultDirectRateLimiter>,
    runsync_rate: Option<DefaultDirectRateLimiter>,
    closing: CancellationToken,
    /// For webhooks, which look at a job later.
    this: Weak<Self>,
}

impl EndpointHandle {
    /// Starts an endpoint, whose time goes on until `closing`.
    pub(crate) fn start(
        rules: Rules,
        clock: Clock,
        webhooks: Webhooks,
        closing: CancellationToken,
    ) -> Arc<Self> {
        let rules = Arc::new(rules);
        let limiter = |rate| RateLimiter::direct(Quota::per_second(rate));
        let handle = Arc::new_cyclic(|this| Self {
            run_rate: rules.run_rate.map(limiter),
            runsync_rate: rules.runsync_rate.map(limiter),
            endpoint: Mutex::new(Endpoint::new(Arc::clone(&rules))),
            rules,
            watched: Mutex::default(),
            queued: Notify::new(),
            stops: Notify::new(),
            deadline: Notify::new(),
            changes: watch::Sender::new(0),
            clock,
            webhooks,
            closing,
            this: Weak::clone(this),
        });
        tokio::spawn({
            let handle = Arc::clone(&handle);
            async move { handle.closing.run_until_cancelled(handle.keep_time()).await }
        });
        handle
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    async fn keep_time(&self) {
        loop {
            let changed = self.deadline.notified();
            match self.read(Endpoint::next_deadline) {
                None => changed.await,
                Some(at) => {
                    tokio::select! {
                        () = changed => {}
                        () = self.clock.sleep_until(at) => self.change(Endpoint::expire),
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
            let result = change(&mut endpoint, self.clock.now());
            (
                result,
                endpoint.take_changes(),
                endpoint.next_deadline() != before,
            )
        };
        self.wake(&changes);
        self.changes.send_modify(|count| *count += 1);
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
        for (job_id, url) in &changes.webhooks {
            self.call_webhook(job_id, url);
        }
        if changes.jobs.is_empty() {
            return;
        }
        let watched = self.watched();
        for id in &changes.jobs {
            if let Some(watch) = watched.get(&**id) {
                watch.notify_waiters();
            }
        }
    }

    fn call_webhook(&self, job_id: &str, url: &str) {
        let (handle, id) = (Weak::clone(&self.this), job_id.to_owned());
        let body = move || {
            let status = handle
                .upgrade()?
                .read(|endpoint| endpoint.status(&id).ok())?;
            serde_json::to_vec(&status).ok().map(Into::into)
        };
        self.webhooks.call(Call {
            job_id: job_id.to_owned(),
            url: url.to_owned(),
            body: Box::new(body),
        });
    }

    /// Counts a call of `/run`, or of `/runsync`, against its rate limit.
    pub(crate) fn admit(&self, sync: bool) -> Result<(), Refusal> {
        let limiter = if sync {
            &self.runsync_rate
        } else {
            &self.run_rate
        };
        let Some(limiter) = limiter else {
            return Ok(());
        };
        limiter
            .check()
            .map_err(|until| Refusal::Often(until.wait_time_from(DefaultClock::default().now())))
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoint at a glance: now, and again after changes, but not more often than `pause`; until the platform
    /// closes.
    pub(crate) fn overviews(
        self: Arc<Self>,
        pause: Duration,
    ) -> impl Stream<Item = Overview> + Send {
        let changes = self.changes.subscribe();
        let closing = self.closing.clone();
        let overviews = futures::stream::unfold(
            (self, changes, true),
            move |(handle, mut changes, first)| async move {
                if !first {
                    changes.changed().await.ok()?;
                    tokio::time::sleep(pause).await;
                    changes.mark_unchanged();
                }
                let overview = handle.read(|endpoint| endpoint.overview(handle.clock.now()));
                Some((overview, (handle, changes, false)))
            },
        );
        overviews.take_until(closing.cancelled_owned())
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
    handle: &'a EndpointHandle,
    id: &'a str,
    notify: Arc<Notify>,
}

impl<'a> Watch<'a> {
    fn of(handle: &'a EndpointHandle, id: &'a str) -> Self {
        let notify = Arc::clone(handle.watched().entry(id.to_owned()).or_default());
        Self { handle, id, notify }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut watched = self.handle.watched();
        // One is the table's, one is ours.
        if Arc::strong_count(&self.notify) <= 2 {
            watched.remove(self.id);
        }
    }
}
