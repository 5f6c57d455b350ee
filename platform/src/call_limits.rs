//! The limits on the calls of an endpoint's operations: calls per period, and concurrent calls.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::{Moment, Refusal};
use crate::rules::{CallRate, Rules};

/// The maximum number of calls that a rate allows in its period, since each of them is recorded.
const MOST_CALLS: usize = 1_000_000;

/// An operation of the client API that has limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Run,
    Runsync,
    /// `/status` and `/status-sync`.
    Status,
    Stream,
    Cancel,
    PurgeQueue,
}

/// The limits of all operations of an endpoint.
#[derive(Debug)]
pub(crate) struct CallLimits {
    run: CallLimit,
    runsync: CallLimit,
    status: CallLimit,
    stream: CallLimit,
    cancel: CallLimit,
    purge_queue: CallLimit,
}

impl CallLimits {
    pub(crate) fn new(rules: &Rules) -> Self {
        let limit = |rate, concurrency| CallLimit {
            rate,
            per_worker: rules.calls_per_worker.into(),
            concurrency,
            calls: Mutex::default(),
        };
        Self {
            run: limit(rules.run_rate, rules.run_concurrency),
            runsync: limit(rules.runsync_rate, rules.runsync_concurrency),
            status: limit(rules.status_rate, rules.status_concurrency),
            stream: limit(rules.stream_rate, rules.stream_concurrency),
            cancel: limit(rules.cancel_rate, rules.cancel_concurrency),
            purge_queue: limit(rules.purge_rate, None),
        }
    }

    pub(crate) fn of(&self, operation: Operation) -> &CallLimit {
        match operation {
            Operation::Run => &self.run,
            Operation::Runsync => &self.runsync,
            Operation::Status => &self.status,
            Operation::Stream => &self.stream,
            Operation::Cancel => &self.cancel,
            Operation::PurgeQueue => &self.purge_queue,
        }
    }
}

/// The limits of one operation, and its calls that count towards them.
#[derive(Debug)]
pub(crate) struct CallLimit {
    rate: Option<CallRate>,
    /// The calls that the rate allows per running worker.
    per_worker: u64,
    concurrency: Option<NonZeroU32>,
    calls: Mutex<CountedCalls>,
}

#[derive(Debug, Default)]
struct CountedCalls {
    /// The times of the calls in the last period, oldest first.
    recent: VecDeque<Moment>,
    open: u32,
}

impl CallLimit {
    /// Returns whether the rate grows with the number of running workers.
    pub(crate) fn grows(&self) -> bool {
        self.rate.is_some() && self.per_worker > 0
    }

    /// Counts a call that is made now, while this number of workers is running. The call is open until the returned
    /// guard is dropped.
    pub(crate) fn admit(&self, now: Moment, running: u64) -> Result<OpenCall<'_>, Refusal> {
        let mut calls = self.calls();
        if let Some(most) = self.concurrency
            && calls.open >= most.get()
        {
            return Err(Refusal::Full(format!(
                "{most} calls of this operation are in progress, which is its limit; retry when one of them has ended"
            )));
        }
        if let Some(CallRate { calls: own, period }) = self.rate {
            let grown = running.saturating_mul(self.per_worker);
            let most = usize::try_from(grown.max(own.get().into())).unwrap_or(usize::MAX);
            let most = most.min(MOST_CALLS);
            let over = |at: &Moment| *at + period <= now;
            while calls.recent.front().is_some_and(over) {
                calls.recent.pop_front();
            }
            if let Some(excess) = calls.recent.len().checked_sub(most) {
                // Once this call is a period ago, the number is below the limit.
                let free = calls.recent[excess] + period;
                return Err(Refusal::Often(Duration::from_millis(
                    free.millis_since(now),
                )));
            }
            calls.recent.push_back(now);
        }
        calls.open += 1;
        Ok(OpenCall(self))
    }

    fn calls(&self) -> MutexGuard<'_, CountedCalls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that counts as concurrent until this is dropped.
#[derive(Debug)]
#[must_use = "the call ends when this is dropped"]
pub(crate) struct OpenCall<'a>(&'a CallLimit);

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.0.calls().open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rules: &str) -> CallLimits {
        CallLimits::new(&rules.parse().unwrap())
    }

    fn at(millis: u64) -> Moment {
        Moment::after_start(Duration::from_millis(millis))
    }

    /// Makes calls at these times, and returns the waits, in milliseconds, of those that are refused.
    fn waits(limit: &CallLimit, running: u64, times: &[u64]) -> Vec<Option<u128>> {
        let wait = |millis: &u64| match limit.admit(at(*millis), running) {
            Ok(_) => None,
            Err(Refusal::Often(wait)) => Some(wait.as_millis()),
            Err(other) => panic!("{other:?}"),
        };
        times.iter().map(wait).collect()
    }

    #[test]
    fn a_rate_holds_in_every_period() {
        let limits = limits("run_rate=3/10s");
        let run = limits.of(Operation::Run);
        let times = [0, 4000, 9000, 9500, 10_000, 10_001, 13_999, 14_000, 14_000];
        let (no, expected) = (None, [Some(500), Some(3999), Some(1), Some(5000)]);
        let [a, b, c, d] = expected;
        assert_eq!(waits(run, 0, &times), [no, no, no, a, no, b, c, no, d]);
    }

    #[test]
    fn the_running_workers_raise_a_rate_and_nothing_lowers_it() {
        let limits = limits("run_rate=2/10s,calls_per_worker=3");
        let run = limits.of(Operation::Run);
        assert!(run.grows() && !limits.of(Operation::Status).grows());
        assert_eq!(waits(run, 0, &[0, 0, 0]), [None, None, Some(10_000)]);
        assert_eq!(waits(run, 1, &[0, 1]), [None, Some(9999)]);
        assert_eq!(waits(run, 2, &[2, 3, 4, 5]), [None, None, None, Some(9995)]);
        // The workers have left: the calls before still count.
        assert_eq!(waits(run, 0, &[6, 10_001]), [Some(9997), Some(2)]);
        assert_eq!(waits(run, 0, &[10_003]), [None]);
    }

    #[test]
    fn a_concurrent_call_counts_until_it_ends() {
        let limits = limits("stream_concurrency=2,run_rate=0");
        let stream = limits.of(Operation::Stream);
        let (one, _two) = (stream.admit(at(0), 0).unwrap(), stream.admit(at(0), 0));
        assert!(matches!(stream.admit(at(0), 9), Err(Refusal::Full(_))));
        drop(one);
        let three = stream.admit(at(0), 0);
        assert!(three.is_ok() && stream.admit(at(0), 0).is_err());
        // Other operations have their own limits.
        let run: Vec<_> = (0..9999)
            .map(|_| limits.of(Operation::Run).admit(at(0), 0))
            .collect();
        assert!(run.iter().all(Result::is_ok));
    }
}
