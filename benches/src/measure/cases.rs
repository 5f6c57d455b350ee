//! The cases: each is a workload at one concurrency.

use serde_json::{Value, json};

use crate::contenders::programs::Contender;
use crate::contenders::work::{DONE, TOKEN, Workload, hash};
use crate::instruments::messages::{ExpectedOutput, JobLoad};

/// The size of a large payload, in bytes.
pub(crate) const LARGE: usize = 5_000_000;

/// A workload at one concurrency.
#[derive(Debug)]
pub(crate) struct Case {
    /// The command line name.
    pub(crate) name: &'static str,
    /// The title in a table.
    pub(crate) title: &'static str,
    pub(crate) work: Workload,
    pub(crate) concurrency: usize,
    /// The latency of each call, in milliseconds.
    pub(crate) latency: u64,
    /// The unit that is counted.
    pub(crate) unit: Unit,
    /// The amount for podwork and for both floors.
    amount: Amount,
    has_floor: bool,
    /// The amount for the official worker, which takes a second for each batch of jobs. `None` if it is not measured.
    official: Option<Amount>,
    /// `true` if the case runs only if it is named.
    pub(crate) on_demand: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Jobs,
    Chunks,
    Updates,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Chunks => "chunks",
            Self::Updates => "updates",
        }
    }
}

/// The amount of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    warm_up: usize,
    pub(crate) jobs: usize,
    /// The `count` in each job's input, or the size of its payload in bytes.
    count: usize,
}

const fn amount(warm_up: usize, jobs: usize, count: usize) -> Amount {
    Amount {
        warm_up,
        jobs,
        count,
    }
}

impl Case {
    const fn new(
        (name, title): (&'static str, &'static str),
        work: Workload,
        concurrency: usize,
        amount: Amount,
    ) -> Self {
        Self {
            name,
            title,
            work,
            concurrency,
            latency: 0,
            unit: match work {
                Workload::Stream | Workload::Join | Workload::Paced => Unit::Chunks,
                Workload::Progress => Unit::Updates,
                _ => Unit::Jobs,
            },
            amount,
            has_floor: true,
            official: None,
            on_demand: false,
        }
    }

    const fn official(mut self, amount: Amount) -> Self {
        self.official = Some(amount);
        self
    }

    const fn latency(mut self, millis: u64) -> Self {
        self.latency = millis;
        self
    }

    const fn without_floor(mut self) -> Self {
        self.has_floor = false;
        self
    }

    const fn on_demand(mut self) -> Self {
        self.on_demand = true;
        self
    }

    /// Returns the amount for a contender, divided by `shrink`. Returns `None` if it is not measured.
    pub(crate) fn amount(&self, contender: Contender, shrink: usize) -> Option<Amount> {
        let Amount {
            warm_up,
            jobs,
            count,
        } = match contender {
            Contender::Ours | Contender::Before => self.amount,
            Contender::Floor | Contender::Raw => self.has_floor.then_some(self.amount)?,
            Contender::Official => self.official?,
        };
        let fewer = |number: usize, least: usize| number.min((number / shrink).max(least));
        Some(match self.unit {
            Unit::Jobs => Amount {
                warm_up: fewer(warm_up, self.concurrency),
                jobs: fewer(jobs, self.concurrency),
                count,
            },
            Unit::Chunks | Unit::Updates => Amount {
                warm_up,
                jobs,
                count: fewer(count, 1),
            },
        })
    }

    /// Returns the jobs of an amount.
    pub(crate) fn load(&self, amount: Amount) -> JobLoad {
        let Amount {
            warm_up,
            jobs,
            count,
        } = amount;
        let input = |count: usize| match self.work {
            Workload::Noop => json!({}),
            Workload::Echo => json!({"data": "x".repeat(count)}),
            _ => json!({"count": count}),
        };
        JobLoad {
            warm_up,
            // A small input, so that the warm-up does not cause the peak memory.
            warm_input: input(match self.work {
                Workload::Sleep | Workload::Cpu | Workload::Call | Workload::Batch => count,
                _ => 10,
            }),
            jobs,
            input: input(count),
            expect: match self.work {
                Workload::Noop
                | Workload::Progress
                | Workload::Sleep
                | Workload::Call
                | Workload::Batch => ExpectedOutput::Output(json!(DONE)),
                Workload::Echo => ExpectedOutput::Input,
                Workload::Stream | Workload::Join | Workload::Paced => {
                    ExpectedOutput::Text(count * TOKEN.len())
                }
                Workload::Cpu => ExpectedOutput::Output(Value::from(hash(count))),
            },
            concurrency: self.concurrency,
        }
    }

    /// Returns the number of units of an amount.
    pub(crate) fn units(&self, amount: Amount) -> usize {
        match self.unit {
            Unit::Jobs => amount.jobs,
            Unit::Chunks | Unit::Updates => amount.jobs * amount.count,
        }
    }
}

/// All cases, in the order of the tables.
pub(crate) static CASES: [Case; 19] = [
    Case::new(
        ("noop-1", "no-op jobs, 1 at once"),
        Workload::Noop,
        1,
        amount(500, 10_000, 0),
    )
    .official(amount(1, 5, 0)),
    Case::new(
        ("noop-10", "no-op jobs, 10 at once"),
        Workload::Noop,
        10,
        amount(1000, 20_000, 0),
    )
    .official(amount(10, 50, 0)),
    Case::new(
        ("noop-100", "no-op jobs, 100 at once"),
        Workload::Noop,
        100,
        amount(2000, 30_000, 0),
    )
    .official(amount(100, 500, 0)),
    Case::new(
        ("noop-1000", "no-op jobs, 1,000 at once"),
        Workload::Noop,
        1000,
        amount(5000, 30_000, 0),
    ),
    Case::new(
        ("echo-64k", "64 KB in and out, 10 at once"),
        Workload::Echo,
        10,
        amount(200, 5000, 64_000),
    )
    .official(amount(10, 50, 64_000)),
    Case::new(
        ("echo-5m", "5 MB in and out, 1 at once"),
        Workload::Echo,
        1,
        amount(5, 60, LARGE),
    )
    .official(amount(1, 4, LARGE)),
    Case::new(
        ("payload", "a single job of 5 MB in and out"),
        Workload::Echo,
        1,
        amount(1, 1, LARGE),
    )
    .official(amount(1, 1, LARGE)),
    Case::new(
        ("stream", "a stream of 10,000 chunks"),
        Workload::Stream,
        1,
        amount(1, 1, 10_000),
    )
    .official(amount(1, 1, 1000)),
    Case::new(
        ("join", "10,000 chunks, with joining"),
        Workload::Join,
        1,
        amount(1, 1, 10_000),
    )
    .without_floor(),
    Case::new(
        ("stream-20ms", "a stream of 500 chunks at 20 ms"),
        Workload::Stream,
        1,
        amount(1, 1, 500),
    )
    .latency(20)
    .official(amount(1, 1, 100)),
    Case::new(
        ("join-20ms", "10,000 chunks at 20 ms, with joining"),
        Workload::Join,
        1,
        amount(1, 1, 10_000),
    )
    .latency(20)
    .without_floor(),
    Case::new(
        ("paced", "10,000 chunks in 2 s, with joining"),
        Workload::Paced,
        1,
        amount(1, 1, 10_000),
    )
    .without_floor(),
    Case::new(
        ("paced-20ms", "10,000 chunks in 2 s at 20 ms, with joining"),
        Workload::Paced,
        1,
        amount(1, 1, 10_000),
    )
    .latency(20)
    .without_floor(),
    Case::new(
        ("progress", "1,000 progress updates"),
        Workload::Progress,
        1,
        amount(1, 10, 1000),
    )
    .official(amount(1, 1, 1000)),
    Case::new(
        ("sleep", "jobs that sleep 50 ms, 100 at once"),
        Workload::Sleep,
        100,
        amount(200, 6000, 50),
    )
    .official(amount(100, 400, 50)),
    Case::new(
        ("cpu", "jobs of some ms of CPU, 2 at once"),
        Workload::Cpu,
        2,
        amount(10, 600, 8_000_000),
    )
    .official(amount(2, 8, 8_000_000)),
    Case::new(
        ("call", "jobs of 5 ms a call, one by one"),
        Workload::Call,
        1,
        amount(10, 400, 5),
    )
    .without_floor(),
    Case::new(
        ("batch", "jobs of 5 ms a call, in batches of 16"),
        Workload::Batch,
        1,
        amount(160, 6400, 5),
    )
    .without_floor(),
    Case::new(
        ("million", "1,000,000 no-op jobs, 100 at once"),
        Workload::Noop,
        100,
        amount(2000, 1_000_000, 0),
    )
    .without_floor()
    .on_demand(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_leaves_work_for_every_slot() {
        let case = |name| CASES.iter().find(|case| case.name == name).unwrap();
        let noop = case("noop-1000").amount(Contender::Ours, 100).unwrap();
        assert_eq!((noop.warm_up, noop.jobs), (1000, 1000));
        let stream = case("stream").amount(Contender::Floor, 100).unwrap();
        assert_eq!((stream.jobs, stream.count), (1, 100));
        let official = case("noop-1").amount(Contender::Official, 100).unwrap();
        assert_eq!((official.warm_up, official.jobs), (1, 1));
        for floor in [Contender::Floor, Contender::Raw] {
            assert!(case("join").amount(floor, 1).is_none());
        }
    }
}
