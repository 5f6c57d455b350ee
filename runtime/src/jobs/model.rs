//! A model of the lifecycle of jobs. Applies random steps of the poll loop, runs, deliveries, cancellations, batches
//! and the shutdown, and checks the invariants after each step.

use std::collections::BTreeSet;

use futures::FutureExt as _;
use proptest::prelude::*;

use super::table::{MAX_UNDELIVERED_BYTES, MIN_UNDELIVERED_JOBS};
use super::*;
use crate::error::{HandlerError, JobOutcome};
use crate::telemetry::TakeResult;

/// The end of a run or of a delivery.
#[derive(Debug, Clone, Copy)]
enum End {
    Completed,
    Failed,
    Panicked,
    /// The breaker counts another job of the same batch instead.
    Repeated,
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Poll,
    Take(u8),
    CancelByPlatform(u8),
    SetConcurrency(usize),
    /// From here to `DropDelivery`, the first field is the index of a job.
    Start(usize),
    Finish(usize, End),
    EndCancelled(usize),
    Vacate(usize, usize),
    DropRun(usize),
    Settle(usize, End),
    DropDelivery(usize),
    StartBatch,
    /// From here to `EndBatch`, the first field is the index of a batch.
    Stuck(usize, usize),
    Unstuck(usize),
    EndBatch(usize),
    EndWorker,
}

fn op() -> impl Strategy<Value = Op> {
    let end = || {
        prop_oneof![
            Just(End::Completed),
            Just(End::Failed),
            Just(End::Panicked),
            Just(End::Repeated)
        ]
    };
    let bytes = prop_oneof![
        4 => 0_usize..1000,
        1 => Just(MAX_UNDELIVERED_BYTES / 2),
        1 => Just(MAX_UNDELIVERED_BYTES),
    ];
    prop_oneof![
        2 => Just(Op::Poll),
        6 => (0_u8..6).prop_map(Op::Take),
        1 => (0_u8..6).prop_map(Op::CancelByPlatform),
        1 => prop_oneof![0_usize..5, Just(usize::MAX)].prop_map(Op::SetConcurrency),
        4 => (0_usize..12).prop_map(Op::Start),
        4 => ((0_usize..12), end()).prop_map(|(job, end)| Op::Finish(job, end)),
        1 => (0_usize..12).prop_map(Op::EndCancelled),
        4 => ((0_usize..12), bytes).prop_map(|(job, bytes)| Op::Vacate(job, bytes)),
        1 => (0_usize..12).prop_map(Op::DropRun),
        4 => ((0_usize..12), end()).prop_map(|(job, end)| Op::Settle(job, end)),
        1 => (0_usize..12).prop_map(Op::DropDelivery),
        2 => Just(Op::StartBatch),
        1 => ((0_usize..4), (0_usize..4)).prop_map(|(batch, jobs)| Op::Stuck(batch, jobs)),
        1 => (0_usize..4).prop_map(Op::Unstuck),
        2 => (0_usize..4).prop_map(Op::EndBatch),
        1 => Just(Op::EndWorker),
    ]
}

/// A job in the model: two handles, each of which may have been dropped.
struct Modelled {
    id: u8,
    run: Option<JobRun>,
    delivery: Option<JobDelivery>,
    ended: bool,
    bytes: usize,
    cancelled: bool,
}

impl Modelled {
    fn is_held(&self) -> bool {
        self.delivery.is_some()
    }

    fn is_delivering(&self) -> bool {
        self.run.is_none() && self.is_held()
    }
}

struct Batch {
    permit: Option<BatchPermit>,
    stuck: Option<usize>,
}

struct Model {
    rules: JobRules,
    jobs: Arc<Jobs>,
    concurrency: usize,
    known: Vec<Modelled>,
    batches: Vec<Batch>,
    completed: BTreeSet<u8>,
    breakdowns: usize,
    tripped: bool,
    worker_ended: bool,
}

impl Model {
    fn new(rules: JobRules) -> Self {
        Self {
            rules,
            jobs: Jobs::new(rules),
            concurrency: 1,
            known: Vec::new(),
            batches: Vec::new(),
            completed: BTreeSet::new(),
            breakdowns: 0,
            tripped: false,
            worker_ended: false,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Poll => {
                self.jobs.polling();
                self.completed.clear();
            }
            Op::Take(id) => self.take(id),
            Op::CancelByPlatform(id) => {
                let held = self
                    .known
                    .iter_mut()
                    .find(|job| job.id == id && job.is_held());
                let is_new = held.as_ref().is_some_and(|job| !job.cancelled);
                assert_eq!(self.jobs.cancel(&id.to_string()), is_new);
                if let Some(job) = held {
                    job.cancelled = true;
                }
            }
            Op::SetConcurrency(concurrency) => {
                self.jobs.set_concurrency(concurrency);
                self.concurrency = concurrency;
            }
            Op::Start(at) => self.with_run(at, |_, run| run.started()),
            Op::Finish(at, end) => self.finish(at, end),
            Op::EndCancelled(at) => self.with_run(at, |job, run| {
                run.cancelled();
                job.ended = true;
            }),
            Op::Vacate(at, bytes) => {
                if let Some(job) = self.known.get_mut(at)
                    && let Some(run) = job.run.take()
                {
                    run.vacate(bytes);
                    job.bytes = bytes;
                }
            }
            Op::DropRun(at) => {
                if let Some(job) = self.known.get_mut(at) {
                    job.run = None;
                }
            }
            Op::Settle(at, end) => self.settle(at, end),
            Op::DropDelivery(at) => {
                if let Some(job) = self.known.get_mut(at) {
                    job.delivery = None;
                }
            }
            Op::StartBatch => {
                let running = self.batches.iter().filter(|batch| batch.permit.is_some());
                let may = running.count() < self.concurrency;
                let permit = self.jobs.permit_batch();
                assert_eq!(permit.is_some(), may);
                self.batches.push(Batch {
                    permit,
                    stuck: None,
                });
            }
            Op::Stuck(at, jobs) => {
                if let Some(Batch {
                    permit: Some(permit),
                    stuck,
                }) = self.batches.get_mut(at)
                {
                    // Dropping the guard is a separate step.
                    std::mem::forget(permit.stuck(jobs));
                    *stuck = Some(jobs);
                }
            }
            Op::Unstuck(at) => {
                if let Some(Batch {
                    permit: Some(permit),
                    stuck,
                }) = self.batches.get_mut(at)
                {
                    drop(permit.stuck(0));
                    *stuck = None;
                }
            }
            Op::EndBatch(at) => {
                if let Some(batch) = self.batches.get_mut(at) {
                    (batch.permit, batch.stuck) = (None, None);
                }
            }
            Op::EndWorker => {
                self.jobs.end_all();
                self.worker_ended = true;
            }
        }
    }

    fn take(&mut self, id: u8) {
        let is_held = self.known.iter().any(|job| job.id == id && job.is_held());
        let welcome = !is_held && !self.completed.contains(&id);
        let telemetry = Telemetry::default();
        let timing = telemetry.take().answered(TakeResult::Jobs);
        let taken = self.jobs.take(&id.to_string(), &telemetry, timing);
        assert_eq!(taken.is_some(), welcome, "job {id}");
        if let Some((run, delivery)) = taken {
            self.known.push(Modelled {
                id,
                run: Some(run),
                delivery: Some(delivery),
                ended: false,
                bytes: 0,
                cancelled: false,
            });
        }
    }

    fn with_run(&mut self, at: usize, step: impl FnOnce(&mut Modelled, &JobRun)) {
        if let Some(job) = self.known.get_mut(at)
            && let Some(run) = job.run.take()
        {
            step(job, &run);
            job.run = Some(run);
        }
    }

    fn finish(&mut self, at: usize, end: End) {
        let Some(job) = self.known.get_mut(at) else {
            return;
        };
        // A run ends only once.
        let Some(run) = job.run.as_ref().filter(|_| !job.ended) else {
            return;
        };
        let failure = match end {
            End::Completed => None,
            End::Failed => Some("it failed".into()),
            End::Panicked => Some(HandlerError::panic(&"it panicked")),
            End::Repeated => Some(HandlerError::panic(&"it panicked").repeated()),
        };
        let trips = run.finished(failure.as_ref());
        job.ended = true;
        let before = self.tripped;
        match end {
            _ if before => {}
            End::Completed | End::Failed => self.breakdowns = 0,
            End::Panicked => self.breakdowns += 1,
            End::Repeated => {}
        }
        self.tripped |= self
            .rules
            .max_failures
            .is_some_and(|limit| self.breakdowns >= limit);
        assert_eq!(trips, self.tripped && !before, "the breaker trips once");
    }

    fn settle(&mut self, at: usize, end: End) {
        let Some(job) = self.known.get_mut(at) else {
            return;
        };
        let Some(delivery) = job.delivery.take() else {
            return;
        };
        let outcome = match end {
            End::Completed => JobOutcome::Completed,
            End::Failed | End::Repeated => JobOutcome::Failed,
            End::Panicked => JobOutcome::Panicked,
        };
        delivery.settled(outcome);
        if outcome == JobOutcome::Completed {
            self.completed.insert(job.id);
        }
    }

    /// Returns the number of slots withheld because of stuck batches.
    fn withheld(&self) -> u128 {
        let Some(max) = self.rules.max_batch else {
            return 0;
        };
        let stuck: Vec<usize> = self
            .batches
            .iter()
            .filter_map(|batch| batch.stuck)
            .collect();
        let rest: u128 = stuck
            .iter()
            .map(|jobs| max.saturating_sub(*jobs) as u128)
            .sum();
        let no_other = !stuck.is_empty() && stuck.len() >= self.concurrency;
        rest + if no_other { max as u128 } else { 0 }
    }

    /// Computes the number of free slots, in integers that cannot overflow.
    fn free(&self) -> u128 {
        let limit = match self.rules.max_batch {
            Some(max) => ((self.concurrency as u128 + 1) * max as u128).min(usize::MAX as u128),
            None => self.concurrency as u128,
        };
        let slots = self.known.iter().filter(|job| job.run.is_some()).count() as u128;
        let delivering: Vec<_> = self
            .known
            .iter()
            .filter(|job| job.is_delivering())
            .collect();
        let bytes: usize = delivering.iter().map(|job| job.bytes).sum();
        if bytes >= MAX_UNDELIVERED_BYTES {
            return 0;
        }
        let undelivered = limit.max(MIN_UNDELIVERED_JOBS as u128);
        limit
            .saturating_sub((slots + self.withheld()).min(usize::MAX as u128))
            .min(undelivered.saturating_sub(delivering.len() as u128))
    }

    fn check(&self) {
        let (counts, recounted) = self.jobs.table().recount();
        assert_eq!(counts, recounted, "the counts match the jobs");

        let held: BTreeSet<String> = self
            .known
            .iter()
            .filter(|job| job.is_held())
            .map(|job| job.id.to_string())
            .collect();
        assert_eq!(self.jobs.ids(), held.into_iter().collect::<Vec<_>>());
        assert_eq!(self.jobs.in_flight(), self.jobs.ids().len());

        let load = self.jobs.load();
        let running = self.known.iter().filter(|job| job.run.is_some()).count();
        let delivering = self.known.iter().filter(|job| job.is_delivering());
        assert_eq!(
            (load.running, load.undelivered),
            (running, delivering.count())
        );

        let free = self.jobs.table().free();
        assert_eq!(free as u128, self.free());
        let waited = self.jobs.free().now_or_never();
        assert_eq!(
            waited,
            Some(free).filter(|free| *free > 0),
            "the wait ends if and only if there is a free slot"
        );

        assert_eq!(self.jobs.tripped().is_some(), self.tripped);
        for job in &self.known {
            let Some(run) = &job.run else { continue };
            let tokens = run.tokens();
            assert_eq!(tokens.by_platform.is_cancelled(), job.cancelled);
            assert_eq!(tokens.by_worker.is_cancelled(), self.worker_ended);
            assert_eq!(tokens.handler.is_cancelled(), job.cancelled);
        }
    }
}

proptest! {
    #[test]
    fn the_table_matches_its_model(
        max_batch in prop_oneof![Just(None), (1_usize..4).prop_map(Some), Just(Some(usize::MAX))],
        max_failures in prop_oneof![Just(None), (1_usize..4).prop_map(Some)],
        ops in prop::collection::vec(op(), 0..80),
    ) {
        let mut model = Model::new(JobRules { max_batch, max_failures });
        model.check();
        for op in ops {
            model.apply(op);
            model.check();
        }
        // In any state, the table is empty once all handles are dropped.
        let jobs = Arc::clone(&model.jobs);
        model.known.clear();
        model.batches.clear();
        let load = jobs.load();
        prop_assert_eq!((jobs.in_flight(), load.running, load.undelivered, load.bytes), (0, 0, 0, 0));
    }
}

fn take(jobs: &Arc<Jobs>, id: &str) -> Option<(JobRun, JobDelivery)> {
    let telemetry = Telemetry::default();
    let timing = telemetry.take().answered(TakeResult::Jobs);
    jobs.take(id, &telemetry, timing)
}

#[tokio::test]
async fn each_change_that_frees_a_slot_wakes_the_waiting_poll() {
    let jobs = Jobs::new(JobRules::default());
    let wait = || {
        let jobs = Arc::clone(&jobs);
        tokio::spawn(async move { jobs.free().await })
    };
    // The handler returns.
    let (run, _delivering) = take(&jobs, "a").unwrap();
    let waiting = wait();
    tokio::task::yield_now().await;
    run.vacate(0);
    assert_eq!(waiting.await.unwrap(), 1);
    // The concurrency grows.
    let second = take(&jobs, "b").unwrap();
    let waiting = wait();
    tokio::task::yield_now().await;
    jobs.set_concurrency(3);
    assert_eq!(waiting.await.unwrap(), 2);
    // The undelivered result is delivered.
    jobs.set_concurrency(1);
    drop(second);
    let (run, large) = take(&jobs, "c").unwrap();
    run.vacate(MAX_UNDELIVERED_BYTES);
    let waiting = wait();
    tokio::task::yield_now().await;
    large.settled(JobOutcome::Completed);
    assert_eq!(waiting.await.unwrap(), 1);
}

#[test]
fn a_cancelled_job_can_be_taken_again_while_its_handler_still_runs() {
    let jobs = Jobs::new(JobRules::default());
    let (run, delivery) = take(&jobs, "a").unwrap();
    run.started();
    assert!(jobs.cancel("a"));
    drop(delivery);
    assert_eq!(jobs.in_flight(), 0);
    assert_eq!(jobs.load().running, 1, "its handler keeps the slot");
    let again = take(&jobs, "a").expect("it was retried");
    assert!(!again.0.tokens().handler.is_cancelled());
    run.cancelled();
    drop(run);
    assert_eq!((jobs.in_flight(), jobs.load().running), (1, 1));
}
