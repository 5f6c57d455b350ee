//! An endpoint as shared by connections: its call limits, its deadlines, and calls that wait for a change.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::call_limits::{CallLimits, OpenCall, Operation};
use crate::clock::Clock;
use crate::endpoint::{Endpoint, Overview};
use crate::engine::Refusal;
use crate::rules::Rules;
use crate::store::Memory;
use crate::waiters::{StreamClaim, Waiters};
use crate::webhooks::{Webhooks, guarded};

/// The interval after which a waiting take checks the queue again even without a notification.
const TAKE_RECHECK: Duration = Duration::from_secs(1);
/// The same interval for all other waiting calls.
const RECHECK: Duration = Duration::from_secs(5);
/// The pause before a task of an endpoint that has panicked is started again.
const RESTART: Duration = Duration::from_secs(1);
/// A time longer than any call waits.
const FOREVER: Duration = Duration::from_hours(24 * 365);

/// One endpoint, shared by all its connections.
#[derive(Debug)]
pub(crate) struct EndpointHandle {
    endpoint: Endpoint,
    waiters: Arc<Waiters>,
    clock: Clock,
    limits: CallLimits,
    closing: CancellationToken,
}

impl EndpointHandle {
    /// Starts an endpoint. Its deadlines and webhook calls run until `closing` is cancelled.
    pub(crate) fn start(
        rules: Rules,
        clock: Clock,
        webhooks: Webhooks,
        closing: CancellationToken,
    ) -> Arc<Self> {
        let rules = Arc::new(rules);
        let waiters = Arc::<Waiters>::default();
        let store = Memory::new(clock.clone(), Arc::clone(&waiters));
        let handle = Arc::new(Self {
            limits: CallLimits::new(&rules),
            endpoint: Endpoint::new(rules, store),
            waiters,
            clock,
            closing,
        });
        tokio::spawn({
            let handle = Arc::clone(&handle);
            async move {
                let time = restarted("deadlines", || handle.keep_time());
                handle.closing.run_until_cancelled(time).await;
            }
        });
        tokio::spawn({
            let handle = Arc::clone(&handle);
            async move {
                let (store, waiters) = (handle.endpoint.store(), &*handle.waiters);
                let calls = restarted("webhooks", || {
                    webhooks.make_calls(store, waiters, &handle.clock, handle.rules())
                });
                handle.closing.run_until_cancelled(calls).await;
            }
        });
        handle
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn rules(&self) -> &Rules {
        self.endpoint.rules()
    }

    async fn keep_time(&self) -> Infallible {
        loop {
            let changed = self.waiters.due.notified();
            let due = self.endpoint.next_deadline().await;
            tokio::select! {
                // Also checks again after a while if nothing is due.
                _ = timeout(RECHECK, changed) => {}
                () = async {
                    match due {
                        Some(at) => self.clock.sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                } => self.endpoint.expire().await,
            }
        }
    }

    /// Counts a call against the limits of its operation. The call is open until the returned guard is dropped.
    pub(crate) async fn admit(&self, operation: Operation) -> Result<OpenCall<'_>, Refusal> {
        let limit = self.limits.of(operation);
        let now = self.clock.now();
        match limit.admit(now, 0) {
            // Workers are counted only when they matter.
            Err(Refusal::Often(_)) if limit.grows() => {
                let running = self.endpoint.health().await.workers.running;
                limit.admit(now, running)
            }
            admitted => admitted,
        }
    }

    /// Returns overviews of the endpoint: one now, and one after each change, at most one per `pause`. The stream ends
    /// when the platform shuts down.
    pub(crate) fn overviews(
        self: Arc<Self>,
        pause: Duration,
    ) -> impl Stream<Item = Overview> + Send {
        let changes = self.waiters.changes.subscribe();
        let closing = self.closing.clone();
        let overviews = futures::stream::unfold(
            (self, changes, true),
            move |(handle, mut changes, first)| async move {
                if !first {
                    // An error means that the endpoint is gone, so there are no further changes.
                    if let Ok(Err(_)) = timeout(RECHECK, changes.changed()).await {
                        return None;
                    }
                    tokio::time::sleep(pause).await;
                    changes.mark_unchanged();
                }
                let overview = handle.endpoint.overview().await;
                Some((overview, (handle, changes, false)))
            },
        );
        overviews.take_until(closing.cancelled_owned())
    }

    /// Calls `attempt` now and after each change of the job, until it returns a value. Returns `None` after `hold`, or
    /// when the platform shuts down.
    pub(crate) async fn until_job<T, F>(
        &self,
        id: &str,
        hold: Option<Duration>,
        attempt: impl FnMut() -> F,
    ) -> Option<T>
    where
        F: Future<Output = Option<T>>,
    {
        let watch = self.waiters.watch(id);
        self.until(watch.changed(), RECHECK, hold, attempt).await
    }

    /// Claims a job's stream once no other client reads it. Returns `None` after `hold`, in case the other client is
    /// gone without closing its connection.
    pub(crate) async fn claim_stream(&self, id: &str, hold: Duration) -> Option<StreamClaim> {
        let watch = self.waiters.watch(id);
        self.until(watch.changed(), RECHECK, Some(hold), || {
            std::future::ready(watch.claim_stream())
        })
        .await
    }

    /// Calls `attempt` now and whenever jobs are queued, until it returns a value. Returns `None` after `hold`, or when
    /// the platform shuts down.
    pub(crate) async fn until_queued<T, F>(
        &self,
        hold: Duration,
        attempt: impl FnMut() -> F,
    ) -> Option<T>
    where
        F: Future<Output = Option<T>>,
    {
        let queued = &self.waiters.queued;
        self.until(queued, TAKE_RECHECK, Some(hold), attempt).await
    }

    /// Calls `attempt` now and whenever a job must be cancelled, until it returns a value. Returns `None` after `hold`,
    /// or when the platform shuts down.
    pub(crate) async fn until_stop<T, F>(
        &self,
        hold: Duration,
        attempt: impl FnMut() -> F,
    ) -> Option<T>
    where
        F: Future<Output = Option<T>>,
    {
        let stop = &self.waiters.stop;
        self.until(stop, RECHECK, Some(hold), attempt).await
    }

    async fn until<T, F>(
        &self,
        notify: &Notify,
        recheck: Duration,
        hold: Option<Duration>,
        mut attempt: impl FnMut() -> F,
    ) -> Option<T>
    where
        F: Future<Output = Option<T>>,
    {
        // Without a limit, the end is in the far future.
        let end = Instant::now() + hold.unwrap_or(FOREVER).min(FOREVER);
        let mut closed = pin!(self.closing.cancelled());
        let mut pause = pin!(sleep_until(end));
        loop {
            // Registered before the attempt, so that no change during the attempt is missed.
            let changed = notify.notified();
            if let Some(answer) = attempt().await {
                return Some(answer);
            }
            pause.as_mut().reset(end.min(Instant::now() + recheck));
            tokio::select! {
                () = changed => {}
                () = &mut pause => {
                    if Instant::now() >= end {
                        return None;
                    }
                }
                () = &mut closed => return None,
            }
        }
    }
}

/// Runs an endless task. If it panics, logs that and starts it again after a pause.
async fn restarted<F: Future<Output = Infallible>>(
    task: &'static str,
    mut start: impl FnMut() -> F,
) -> Infallible {
    loop {
        match guarded(async { start().await }).await {
            Ok(never) => match never {},
            Err(error) => {
                let logging = async {
                    error!(
                        task,
                        error, "A task of the platform panicked; restarting it."
                    );
                };
                // A `tracing` subscriber that has panicked may panic again.
                let _ = guarded(logging).await;
                tokio::time::sleep(RESTART).await;
            }
        }
    }
}

/// Runs work that nothing waits for: inline if it never suspends, as with the memory store, otherwise in its own task.
pub(crate) fn in_background(work: impl Future<Output = ()> + Send + 'static) {
    let mut work = Box::pin(work);
    if work.as_mut().now_or_never().is_none()
        && let Ok(runtime) = Handle::try_current()
    {
        runtime.spawn(work);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use podwork_protocol::limits;

    use super::*;
    use crate::engine::Submission;
    use crate::store::Wanted;

    /// Creates an endpoint that sends no hints, because its store notifies other waiters.
    fn silent() -> EndpointHandle {
        let clock = Clock::new();
        let store = Memory::new(clock.clone(), Arc::default());
        EndpointHandle {
            endpoint: Endpoint::new(Arc::default(), store),
            waiters: Arc::default(),
            clock,
            limits: CallLimits::new(&Rules::default()),
            closing: CancellationToken::new(),
        }
    }

    async fn submit(handle: &EndpointHandle) {
        let submission = Submission {
            id: "j".into(),
            input: "1".into(),
            extra: Bytes::new(),
            execution_timeout: limits::DEFAULT_EXECUTION_TIMEOUT,
            ttl: Duration::from_secs(8),
            retention: limits::RUN_RETENTION,
            webhook: None,
        };
        handle.endpoint.submit(submission).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_checks_again_without_a_hint() {
        let handle = silent();
        let start = Instant::now();
        let take = handle.until_queued(Duration::from_mins(1), || async {
            let jobs = handle.endpoint.take("w", 1).await;
            (!jobs.is_empty()).then_some(start.elapsed())
        });
        let ended = handle.until_job("j", None, || async {
            let job = handle.endpoint.job("j", Wanted::Nothing).await.ok()?;
            (job.record.status.is_final()).then(|| start.elapsed())
        });
        let stop = handle.until_stop(Duration::from_mins(1), || async {
            let stops = handle.endpoint.stops("w").await;
            (!stops.is_empty()).then(|| start.elapsed())
        });
        let change = async {
            // After this, the other futures are waiting.
            tokio::task::yield_now().await;
            submit(&handle).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            handle.endpoint.cancel("j").await.unwrap();
        };
        let (taken, ended, stopped, ()) = tokio::join!(take, ended, stop, change);
        let seconds = [taken, ended, stopped].map(|at| at.unwrap().as_secs());
        assert_eq!(seconds, [1, 5, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn timers_fire_without_a_hint() {
        let handle = silent();
        let start = Instant::now();
        let change = async {
            tokio::task::yield_now().await;
            submit(&handle).await;
            while handle.endpoint.job("j", Wanted::Nothing).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            _ = handle.keep_time() => {}
            () = change => {}
        }
        // The job's ttl, seen at the first recheck.
        assert!((8..=9).contains(&start.elapsed().as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again() {
        let begun = Instant::now();
        let mut starts = Vec::new();
        let task = restarted("test", || {
            starts.push(begun.elapsed().as_secs());
            let fails = starts.len() < 3;
            async move {
                assert!(!fails, "it fails");
                std::future::pending().await
            }
        });
        assert!(timeout(Duration::from_mins(1), task).await.is_err());
        assert_eq!(starts, [0, 1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_has_one_reader_at_a_time_and_a_stalled_one_loses_its_turn() {
        let handle = silent();
        let hold = Duration::from_secs(5);
        let first = handle.claim_stream("j", hold).await;
        assert!(first.is_some());
        assert!(handle.claim_stream("j", hold).await.is_none());
        let (second, ()) = tokio::join!(handle.claim_stream("j", hold), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        assert!(second.is_some());
    }
}
