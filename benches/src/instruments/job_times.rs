//! The times of the jobs of one load.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use crate::error::Result;
use crate::instruments::messages::LoadReport;
use crate::instruments::stats::Spread;

/// The times of jobs, measured by the platform, in nanoseconds since the load began.
#[derive(Debug)]
pub struct JobTimes {
    began: (Instant, SystemTime),
    warm_up: usize,
    total: usize,
    /// The time of the hand-out of each job at a worker, by id.
    at_worker: HashMap<String, i64>,
    hand_outs: Vec<i64>,
    results: Vec<i64>,
    /// The time of each job at the worker, in the order of the results.
    latencies: Vec<i64>,
    failed: usize,
}

impl JobTimes {
    /// Starts a load of `total` jobs, of which the first `warm_up` are not measured.
    pub fn new(warm_up: usize, total: usize) -> Self {
        Self {
            began: (Instant::now(), SystemTime::now()),
            warm_up,
            total,
            at_worker: HashMap::new(),
            hand_outs: Vec::with_capacity(total),
            results: Vec::with_capacity(total),
            latencies: Vec::with_capacity(total),
            failed: 0,
        }
    }

    /// Returns the current time.
    pub fn now(&self) -> i64 {
        nanos(self.began.0.elapsed())
    }

    /// Records that a job was handed out.
    pub fn hand_out(&mut self, job_id: String, at: i64) {
        self.hand_outs.push(at);
        self.at_worker.insert(job_id, at);
    }

    /// Records that a job's result was accepted.
    pub fn result(&mut self, job_id: &str, well: bool, at: i64) {
        self.failed += usize::from(!well);
        if let Some(handed_out) = self.at_worker.remove(job_id) {
            self.results.push(at);
            self.latencies.push(at - handed_out);
        }
    }

    /// Returns whether the last result was the last of the warm-up.
    pub fn is_warm(&self) -> bool {
        self.results.len() == self.warm_up
    }

    /// Returns whether all results have been accepted.
    pub fn is_done(&self) -> bool {
        self.results.len() == self.total
    }

    /// Returns the number of jobs that did not complete.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Summarizes the measured jobs, of which `concurrency` ran at once.
    ///
    /// # Errors
    /// Returns an error if no measured job has ended.
    pub fn report(&self, concurrency: usize) -> Result<LoadReport> {
        let Self {
            warm_up,
            hand_outs,
            results,
            latencies,
            ..
        } = self;
        let first = hand_outs.first().ok_or("no job was taken")?;
        let begin = match warm_up.checked_sub(1) {
            Some(last) => results.get(last),
            None => Some(first),
        };
        let (begin, end) = begin.zip(results.last()).ok_or("no result was posted")?;
        let next = hand_outs.iter().skip(concurrency);
        let gaps = results.iter().zip(next).skip(*warm_up);
        let since_epoch = self.began.1.duration_since(SystemTime::UNIX_EPOCH)?;
        Ok(LoadReport {
            took: end - begin,
            first_hand_out: nanos(since_epoch) + first,
            latency: Spread::of(latencies.iter().skip(*warm_up).copied().collect())
                .ok_or("nothing was measured")?,
            gap: Spread::of(gaps.map(|(result, next)| next - result).collect()),
        })
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(warm_up: usize, events: &[(&str, bool, i64)]) -> JobTimes {
        let mut times = JobTimes::new(warm_up, 3);
        for (id, result, at) in events {
            if *result {
                times.result(id, true, *at);
            } else {
                times.hand_out((*id).to_owned(), *at);
            }
        }
        times
    }

    #[test]
    fn the_warm_up_is_not_measured() {
        let events = [
            ("a", false, 0),
            ("a", true, 1000),
            ("b", false, 1010),
            ("b", true, 1030),
            ("c", false, 1070),
            ("c", true, 1100),
        ];
        let times = times(1, &events);
        assert!(times.is_done());
        let report = times.report(1).unwrap();
        assert_eq!(report.took, 100);
        assert_eq!((report.latency.p50, report.latency.p99), (20, 30));
        assert_eq!(report.gap.unwrap().p50, 40);
    }

    #[test]
    fn a_gap_is_to_the_hand_out_that_a_result_makes_room_for() {
        let events = [
            ("a", false, 0),
            ("b", false, 0),
            ("c", false, 5),
            ("b", true, 20),
            ("a", true, 30),
            ("c", true, 40),
        ];
        let report = times(0, &events).report(2).unwrap();
        assert_eq!((report.took, report.gap.unwrap().p50), (40, -15));
        // With more slots than jobs, no result makes room for another job.
        assert!(times(0, &events).report(3).unwrap().gap.is_none());
    }

    #[test]
    fn a_result_that_nobody_was_given_does_not_count() {
        let times = times(0, &[("a", false, 0), ("x", true, 5)]);
        assert!(!times.is_done() && times.report(1).is_err());
    }
}
