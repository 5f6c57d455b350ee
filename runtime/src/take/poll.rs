//! The poll loop: each long poll requests as many jobs as there are free slots.

use std::time::Duration;

use podwork_protocol::worker::{InvalidJob, Job, TakenJobs};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::jobs::Jobs;
use crate::net::backoff::Backoff;
use crate::net::suspension::Suspensions;
use crate::platform_client::{Api, CallError, Failing};
use crate::telemetry::{TakeResult, TakeTiming, Telemetry};

use super::concurrency::Concurrency;
use super::held::held;
use super::intake_log::IntakeLog;

/// The time limit for the open poll once the worker drains: the platform may already have handed out a job.
const LAST_POLL: Duration = Duration::from_secs(2);

/// The pause after polls that return immediately without a job, so as not to flood a platform without long polling.
#[derive(Debug, Default)]
pub(crate) struct EmptyPolls {
    pause: Duration,
}

impl EmptyPolls {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(1);

    /// Returns the pause after a poll that began at `asked`.
    pub(crate) fn pause(&mut self, asked: Instant, empty: bool) -> Duration {
        self.pause = if !empty || asked.elapsed() >= Self::LONGEST {
            Duration::ZERO
        } else {
            (self.pause * 2).clamp(Self::FIRST, Self::LONGEST)
        };
        self.pause
    }
}

/// The id of a job that the platform handed out twice.
#[derive(Debug)]
pub(crate) struct DuplicateJob(pub(crate) String);

/// The poll loop of one worker.
pub(crate) struct Poller<'a> {
    pub(crate) api: &'a Api,
    pub(crate) jobs: &'a Jobs,
    pub(crate) telemetry: &'a Telemetry,
    /// Cancelled when the worker drains.
    pub(crate) drain: &'a CancellationToken,
}

impl Poller<'_> {
    /// Fetches jobs and passes them to `start`, until the worker drains. Waits for `ready` before each poll.
    ///
    /// # Errors
    /// Returns the error of `ready`.
    pub(crate) async fn run<R: Future<Output = Result<(), Failing>>>(
        &self,
        concurrency: &mut dyn Concurrency,
        ready: impl Fn() -> R,
        start: impl Fn(Result<Job, InvalidJob>, TakeTiming) -> Result<(), DuplicateJob>,
    ) -> Result<(), Failing> {
        let mut errors = Backoff::new(Duration::from_millis(20), Duration::from_secs(4));
        let mut empty = EmptyPolls::default();
        let mut suspensions = Suspensions::new();
        let mut log = IntakeLog::default();
        loop {
            log.summarize();
            let next = concurrency.next(self.jobs.concurrency());
            self.jobs.set_concurrency(next);
            let Some(wanted) = self.until_wanted(&ready).await? else {
                return Ok(());
            };
            self.jobs.polling();
            let asked = Instant::now();
            let timer = self.telemetry.take();
            let take = self.api.take(wanted, self.jobs.in_flight() > 0);
            let open = poll(take, self.drain);
            let answer = match held(open, suspensions.next(), || self.api.reconnect()).await {
                Some(Some(answer)) => answer,
                Some(None) => return Ok(()),
                None => continue,
            };
            let timing = timer.answered(result_of(&answer));
            let delay = match answer {
                Ok(taken) => {
                    errors.reset();
                    let came = self.hand_over(taken, &mut log, |job| start(job, timing));
                    empty.pause(asked, !came)
                }
                // Not logged: there is no retry, and the platform may have shut down before the worker.
                Err(_) if self.drain.is_cancelled() => return Ok(()),
                Err(error) => delay_after(error, &mut errors),
            };
            if !delay.is_zero() {
                self.drain
                    .run_until_cancelled(tokio::time::sleep(delay))
                    .await;
            }
        }
    }

    /// Waits until the worker may fetch jobs, and returns how many. Returns `None` once the worker drains.
    async fn until_wanted<R: Future<Output = Result<(), Failing>>>(
        &self,
        ready: impl Fn() -> R,
    ) -> Result<Option<usize>, Failing> {
        let drain = self.drain;
        let Some(wanted) = drain.run_until_cancelled(self.jobs.free()).await else {
            return Ok(None);
        };
        let Some(ready) = drain.run_until_cancelled(ready()).await else {
            return Ok(None);
        };
        ready?;
        // The job that freed the slot may be the one that requested the worker's replacement.
        Ok((!drain.is_cancelled()).then_some(wanted))
    }

    /// Passes each fetched job to `start`. Returns whether any of them is new and can run: if not, the next poll needs a
    /// pause, because the platform may return the same again immediately.
    ///
    /// A job that has just ended runs again, because its result may be lost, or a client may have retried it. But it is
    /// not new.
    fn hand_over(
        &self,
        taken: TakenJobs,
        log: &mut IntakeLog,
        start: impl Fn(Result<Job, InvalidJob>) -> Result<(), DuplicateJob>,
    ) -> bool {
        if let Some(elements) = &taken.ignored {
            log.ignored(elements);
        }
        let mut came = false;
        let jobs = taken.jobs.into_iter().map(Ok);
        for job in jobs.chain(taken.invalid.into_iter().map(Err)) {
            let new = job
                .as_ref()
                .is_ok_and(|job| !self.jobs.was_settled(&job.id));
            match start(job) {
                Ok(()) => came |= new,
                Err(DuplicateJob(id)) => log.duplicate(&id),
            }
        }
        came
    }
}

/// Logs why a poll failed, and returns the delay before the next one.
fn delay_after(error: CallError, errors: &mut Backoff) -> Duration {
    match error {
        CallError::Retryable { why, after } => {
            let delay = errors.next(after);
            let millis = delay.as_millis();
            warn!(delay_ms = millis, error = %why, "Poll failed; retrying.");
            delay
        }
        CallError::Refused { why, .. } => {
            let delay = errors.next(None);
            let millis = delay.as_millis();
            error!(delay_ms = millis, error = %why, "The platform rejected the poll; retrying.");
            delay
        }
    }
}

fn result_of(answer: &Result<TakenJobs, CallError>) -> TakeResult {
    match answer {
        Ok(taken) if !taken.jobs.is_empty() || !taken.invalid.is_empty() => TakeResult::Jobs,
        Ok(_) => TakeResult::Empty,
        Err(_) => TakeResult::Error,
    }
}

/// Waits for the open poll. Once the worker drains, waits for [`LAST_POLL`] at most, and then returns `None`.
async fn poll<T>(take: impl Future<Output = T>, drain: &CancellationToken) -> Option<T> {
    tokio::pin!(take);
    if let Some(answer) = drain.run_until_cancelled(&mut take).await {
        return Some(answer);
    }
    let last = tokio::time::timeout(LAST_POLL, take).await.ok();
    let ended = if last.is_some() {
        "answered"
    } else {
        "abandoned"
    };
    debug!(result = %ended, "The last poll has ended.");
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_polls_that_come_back_empty_at_once_are_paused() {
        let mut polls = EmptyPolls::default();
        let pauses: Vec<_> = (0..8)
            .map(|_| polls.pause(Instant::now(), true).as_millis())
            .collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert!(polls.pause(Instant::now(), false).is_zero());

        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(25)).await;
        assert!(
            polls.pause(asked, true).is_zero(),
            "no pause follows a poll that the platform held"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_open_poll_has_2_more_seconds_at_the_end() {
        let drain = CancellationToken::new();
        drain.cancel();
        let started = Instant::now();
        assert_eq!(poll(std::future::pending::<()>(), &drain).await, None);
        assert_eq!(started.elapsed(), LAST_POLL);
        let late = async {
            tokio::time::sleep(Duration::from_millis(1900)).await;
            "a job"
        };
        assert_eq!(poll(late, &drain).await, Some("a job"));
    }
}
