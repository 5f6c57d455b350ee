//! Taking jobs: one long-poll for as many as there are free slots.

use std::sync::Arc;
use std::time::Duration;

use podwork_protocol::worker::Job;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::jobs::in_flight::InFlight;
use crate::jobs::slots::Slots;
use crate::net::backoff::Backoff;
use crate::platform_client::{Api, CallError, Failing, Taken};
use crate::telemetry::{Answer, Telemetry, Took};

/// How long the open poll may go on once the worker was told to end: it may be bringing a job.
const LAST_POLL: Duration = Duration::from_secs(2);

/// The pause after polls that came back empty and at once: a platform without long-polling must not be hammered.
#[derive(Debug, Default)]
pub(crate) struct EmptyPolls {
    pause: Duration,
}

impl EmptyPolls {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(1);

    /// The pause after a poll that began at `asked`.
    pub(crate) fn pause(&mut self, asked: Instant, empty: bool) -> Duration {
        self.pause = if !empty || asked.elapsed() >= Self::LONGEST {
            Duration::ZERO
        } else {
            (self.pause * 2).clamp(Self::FIRST, Self::LONGEST)
        };
        self.pause
    }
}

/// How many jobs to run at once, asked before each take.
pub(crate) trait Concurrency: Send {
    /// The limit from now on, given the present one.
    fn next(&mut self, current: usize) -> usize;
}

/// Where jobs come from.
pub(crate) struct Source<'a> {
    pub(crate) api: &'a Api,
    pub(crate) slots: &'a Slots,
    pub(crate) in_flight: &'a Arc<InFlight>,
    pub(crate) telemetry: &'a Telemetry,
}

/// Takes jobs and hands them to `start`, until told to end. Before each take it waits for `ready`, and its error ends
/// the taking.
pub(crate) async fn pull<R: Future<Output = Result<(), Failing>>>(
    source: Source<'_>,
    concurrency: &mut dyn Concurrency,
    drain: &CancellationToken,
    ready: impl Fn() -> R,
    start: impl Fn(Job, Took),
) -> Result<(), Failing> {
    let Source {
        api,
        slots,
        in_flight,
        telemetry,
    } = source;
    let mut errors = Backoff::new(Duration::from_millis(20), Duration::from_secs(4));
    let mut empty = EmptyPolls::default();
    while !drain.is_cancelled() {
        slots.set_limit(concurrency.next(slots.limit()));
        let Some(wanted) = drain.run_until_cancelled(slots.free()).await else {
            break;
        };
        let Some(ready) = drain.run_until_cancelled(ready()).await else {
            break;
        };
        ready?;
        // Both may be so at once: the job that freed the slot may be the one that has the worker replaced.
        if drain.is_cancelled() {
            break;
        }
        in_flight.polling();
        let asked = Instant::now();
        let take = telemetry.take();
        let Some(answer) = poll(api.take(wanted, in_flight.len() > 0), drain).await else {
            break;
        };
        let took = take.answered(answered(&answer));
        let delay = match answer {
            Ok(taken) => {
                errors.reset();
                let jobs = match taken {
                    Taken::Jobs(jobs) => jobs.0,
                    Taken::Nothing => Vec::new(),
                };
                let came = !jobs.is_empty();
                for job in jobs {
                    match job {
                        Ok(job) => start(job, took),
                        Err(why) => {
                            error!("what the platform sent is no job and is not run: {why}");
                        }
                    }
                }
                empty.pause(asked, !came)
            }
            // There is no next try, and who tells the worker to end may well have ended first.
            Err(_) if drain.is_cancelled() => break,
            Err(CallError::Retryable { why, after }) => {
                let delay = errors.next(after);
                warn!(
                    "no job could be taken, next try in {} ms: {why}",
                    delay.as_millis()
                );
                delay
            }
            Err(CallError::Refused { why, .. }) => {
                let delay = errors.next(None);
                error!(
                    "the platform refuses this worker, next try in {} ms: {why}",
                    delay.as_millis()
                );
                delay
            }
        };
        if !delay.is_zero() {
            drain.run_until_cancelled(tokio::time::sleep(delay)).await;
        }
    }
    Ok(())
}

fn answered(answer: &Result<Taken, CallError>) -> Answer {
    match answer {
        Ok(Taken::Jobs(jobs)) if !jobs.0.is_empty() => Answer::Jobs,
        Ok(_) => Answer::Empty,
        Err(_) => Answer::Error,
    }
}

/// Waits for the open poll; when told to end meanwhile, a little longer.
async fn poll<T>(take: impl Future<Output = T>, drain: &CancellationToken) -> Option<T> {
    tokio::pin!(take);
    if let Some(answer) = drain.run_until_cancelled(&mut take).await {
        return Some(answer);
    }
    let last = tokio::time::timeout(LAST_POLL, take).await.ok();
    debug!(
        "the last poll {}",
        if last.is_some() {
            "ended"
        } else {
            "was given up"
        }
    );
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
            "a poll that was held needs no pause"
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
