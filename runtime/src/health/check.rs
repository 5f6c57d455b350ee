//! The worker's health, which decides whether it polls for jobs: the user's health check, and the breaker.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::error::HandlerError;
use crate::handler::seal::Seal;
use crate::jobs::Jobs;
use crate::net::backoff::Backoff;
use crate::platform_client::Failing;
use crate::threads::spawn_blocking;

/// The name of the breaker in reports.
const BREAKER: &str = "breaker";
/// The name of the user's health check in reports.
const CHECK: &str = "health";
/// The first delay before a failing check runs again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest delay before a failing check runs again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The worker's health, as heartbeats report it: the last result of the health check, and the state of the breaker.
#[derive(Debug)]
pub(crate) struct WorkerHealth {
    jobs: Arc<Jobs>,
    // Never held across an await.
    check: Mutex<Option<Failing>>,
}

impl WorkerHealth {
    pub(crate) fn new(jobs: Arc<Jobs>) -> Arc<Self> {
        Arc::new(Self {
            jobs,
            check: Mutex::default(),
        })
    }

    /// Returns the failing check, or `None` if the worker is healthy.
    pub(crate) fn failing(&self) -> Option<Failing> {
        self.tripped().or_else(|| self.check().clone())
    }

    /// Returns the breaker's report once it has tripped.
    pub(crate) fn tripped(&self) -> Option<Failing> {
        let jobs = self.jobs.tripped()?;
        Some(Failing {
            check: BREAKER.to_owned(),
            reason: format!("{jobs} jobs in a row panicked, or ran out of memory or threads"),
        })
    }

    fn check(&self) -> MutexGuard<'_, Option<Failing>> {
        self.check.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Ask = dyn Fn(&AnyState, CancellationToken) -> Result<(), HandlerError> + Send + Sync;
type AnyState = dyn Any + Send + Sync;

/// The user's health check.
#[derive(Clone)]
pub(crate) struct HealthCheck {
    ask: Arc<Ask>,
}

impl HealthCheck {
    /// Creates the check of a worker whose state is an `S`.
    pub(crate) fn new<S: 'static, M>(check: impl Check<S, M>) -> Self {
        let ask = move |state: &AnyState, given_up| {
            let state = state.downcast_ref();
            let state = state.expect("the builder ties the check to the worker's state");
            check.ask(state, given_up, Seal)
        };
        Self { ask: Arc::new(ask) }
    }

    /// Waits until the check passes. Returns an error once it has failed, or has not returned, for `limit`.
    pub(crate) async fn pass(
        &self,
        state: Arc<AnyState>,
        handlers: &Handle,
        health: &WorkerHealth,
        limit: Duration,
    ) -> Result<(), Failing> {
        let deadline = Instant::now() + limit;
        let mut pauses = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let (ask, state) = (Arc::clone(&self.ask), Arc::clone(&state));
            let given_up = CancellationToken::new();
            let _given_up = given_up.clone().drop_guard();
            // The check may block, so it runs on a blocking thread. An async check is awaited there, too.
            let asking = spawn_blocking(handlers, move || {
                catch_unwind(AssertUnwindSafe(|| ask(&*state, given_up)))
                    .unwrap_or_else(|payload| Err(HandlerError::panic(&*payload)))
            });
            let asking = async { asking?.await };
            let reason = match timeout_at(deadline, asking).await {
                Ok(Ok(Ok(()))) => {
                    if health.check().take().is_some() {
                        info!("Health check passed; polling for jobs again.");
                    }
                    return Ok(());
                }
                Ok(Ok(Err(failure))) => failure.trace(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the check timed out".to_owned(),
            };
            let failing = Failing {
                check: CHECK.to_owned(),
                reason,
            };
            *health.check() = Some(failing.clone());
            let pause = pauses.next(None);
            if Instant::now() + pause >= deadline {
                error!(
                    limit_ms = limit.as_millis(),
                    reason = %failing.reason,
                    "Health check failed for too long; giving up."
                );
                return Err(failing);
            }
            warn!(
                reason = %failing.reason,
                "Health check failed; not polling for jobs until it passes."
            );
            tokio::time::sleep(pause).await;
        }
    }
}

impl std::fmt::Debug for HealthCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HealthCheck").finish_non_exhaustive()
    }
}

/// A health check: a sync or async `fn(&S) -> Result<(), E>`. `M` only distinguishes the two kinds and is always
/// inferred.
#[diagnostic::on_unimplemented(
    message = "this cannot be a health check of a worker with the state `{S}`",
    note = "a health check takes `&{S}` and returns `Result<(), E>`, async or not; a closure must name its parameter's type"
)]
pub trait Check<S, M>: Send + Sync + 'static {
    /// Runs the check once, on a blocking thread.
    #[doc(hidden)]
    fn ask(&self, state: &S, given_up: CancellationToken, _: Seal) -> Result<(), HandlerError>;
}

/// Marks a [`Check`] that is not async.
#[derive(Debug)]
pub struct Blocking;
/// Marks an async [`Check`].
#[derive(Debug)]
pub struct Awaited;

impl<S, E, F> Check<S, Blocking> for F
where
    E: Into<HandlerError>,
    F: Fn(&S) -> Result<(), E> + Send + Sync + 'static,
{
    fn ask(&self, state: &S, _: CancellationToken, _: Seal) -> Result<(), HandlerError> {
        self(state).map_err(Into::into)
    }
}

impl<S, E, F> Check<S, Awaited> for F
where
    E: Into<HandlerError>,
    F: AsyncFn(&S) -> Result<(), E> + Send + Sync + 'static,
{
    fn ask(&self, state: &S, given_up: CancellationToken, _: Seal) -> Result<(), HandlerError> {
        let answer = given_up.run_until_cancelled(self(state));
        match Handle::current().block_on(answer) {
            Some(answer) => answer.map_err(Into::into),
            // The caller has given up, so the result is not used.
            None => Ok(()),
        }
    }
}
