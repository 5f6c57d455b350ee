use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use podwork_protocol::RawValue;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::delivery::outbox::{Chunks, Outbox};
use crate::handler::Batch;
use crate::handler::execution::Execution;
use crate::jobs::JobRules;
use crate::telemetry::Telemetry;

const MAX_BATCH: usize = 3;
const MAX_WAIT: Duration = Duration::from_millis(100);

/// The state of the test handler: records each batch. The handler waits for a permit of the gate, then returns the
/// input of each job.
struct Seen {
    batches: Mutex<Vec<Vec<u32>>>,
    gate: Semaphore,
}

impl Seen {
    fn batches(&self) -> Vec<Vec<u32>> {
        self.batches.lock().unwrap().clone()
    }
}

/// An input on which the handler panics.
const POISON: u32 = 666;

fn handle(inputs: Batch<u32>, seen: Arc<Seen>) -> Work<Vec<Outcome>> {
    seen.batches.lock().unwrap().push(inputs.to_vec());
    Work::Async(Box::pin(async move {
        seen.gate.acquire().await.unwrap().forget();
        assert!(!inputs.contains(&POISON), "poisoned");
        Ok(inputs.iter().map(|input| Ok(raw(*input))).collect())
    }))
}

fn raw(input: u32) -> Box<RawValue> {
    serde_json::value::to_raw_value(&json!(input)).unwrap()
}

fn batching(max_wait: Duration) -> Batching<Seen, u32> {
    Batching {
        max_batch: MAX_BATCH,
        max_wait,
        weighing: None,
        input: Call::input,
        call: handle,
    }
}

/// The batches of a worker, and its handler. The gate of the handler is open unless the bench is created `busy`.
struct Bench {
    jobs: Arc<Jobs>,
    batches: Arc<Batches<Seen, u32>>,
    seen: Arc<Seen>,
    drain: CancellationToken,
    _releasing: AbortOnDropHandle<()>,
}

impl Bench {
    fn new(busy: bool) -> Self {
        Self::waiting(busy, MAX_WAIT)
    }

    fn waiting(busy: bool, max_wait: Duration) -> Self {
        Self::of(busy, batching(max_wait))
    }

    fn of(busy: bool, batching: Batching<Seen, u32>) -> Self {
        let seen = Arc::new(Seen {
            batches: Mutex::default(),
            gate: Semaphore::new(if busy { 0 } else { 1000 }),
        });
        let jobs = Jobs::new(JobRules {
            max_batch: Some(batching.max_batch),
            max_failures: None,
        });
        let batches = Batches::new(batching, Arc::clone(&jobs), Arc::clone(&seen));
        let drain = CancellationToken::new();
        let releasing = {
            let (batches, drain) = (Arc::clone(&batches), drain.clone());
            tokio::spawn(async move {
                let start = |batch: ReadyBatch<_>| {
                    let run = batch.run(
                        Arc::clone(&batches),
                        Telemetry::default(),
                        CancellationToken::new(),
                    );
                    tokio::spawn(run);
                };
                Arc::clone(&batches).release(&drain, start).await;
            })
        };
        Self {
            jobs,
            batches,
            seen,
            drain,
            _releasing: AbortOnDropHandle::new(releasing),
        }
    }

    fn call(&self, input: u32) -> Work {
        let outbox = Arc::new(Outbox::default());
        let call = Call::new(
            Context::detached(input.to_string()),
            raw(input),
            Arc::clone(&self.seen),
            Chunks::new(outbox, "test", false),
        );
        let (held, _) = oneshot::channel();
        Arc::clone(&self.batches).join(call, held)
    }

    /// Lets a job join a batch, and polls it once.
    fn join(&self, input: u32) -> BoxFuture<'static, Outcome> {
        let Work::Async(mut share) = self.call(input) else {
            unreachable!("a job's part of a batch is async");
        };
        assert!(share.as_mut().now_or_never().is_none());
        share
    }

    fn join_all<const N: usize>(&self, inputs: [u32; N]) -> [BoxFuture<'static, Outcome>; N] {
        inputs.map(|input| self.join(input))
    }
}

fn number(outcome: Outcome) -> u32 {
    outcome.unwrap().get().parse().unwrap()
}

/// Lets all tasks that can make progress do so, without time passing.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_job_waits_for_at_most_max_wait() {
    let bench = Bench::new(false);
    let began = Instant::now();
    assert_eq!(number(bench.join(1).await), 1);
    assert_eq!(began.elapsed(), MAX_WAIT);
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_runs_at_once_and_each_job_has_its_own_outcome() {
    let bench = Bench::new(false);
    let began = Instant::now();
    let outcomes = join_all(bench.join_all([1, 2, 3])).await;
    assert_eq!(
        outcomes.into_iter().map(number).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(bench.seen.batches(), [[1, 2, 3]]);
}

#[tokio::test(start_paused = true)]
async fn later_jobs_do_not_extend_the_wait_of_the_first() {
    let bench = Bench::new(false);
    let began = Instant::now();
    let first = bench.join(1);
    tokio::time::advance(MAX_WAIT / 2).await;
    let second = bench.join(2);
    assert_eq!(number(first.await), 1);
    assert_eq!(began.elapsed(), MAX_WAIT);
    assert_eq!(number(second.await), 2);
    assert_eq!(bench.seen.batches(), [[1, 2]]);
}

#[tokio::test(start_paused = true)]
async fn jobs_form_batches_while_the_handler_is_busy() {
    let bench = Bench::new(true);
    let _first = bench.join(1);
    tokio::time::advance(MAX_WAIT).await;
    settle().await;
    assert_eq!(bench.seen.batches(), [[1]]);
    let _others = bench.join_all([2, 3, 4, 5]);
    tokio::time::advance(MAX_WAIT).await;
    settle().await;
    assert_eq!(bench.seen.batches().len(), 1, "one batch runs at a time");
    let began = Instant::now();
    bench.seen.gate.add_permits(2);
    settle().await;
    assert_eq!(bench.seen.batches(), [vec![1], vec![2, 3, 4], vec![5]]);
    assert_eq!(began.elapsed(), Duration::ZERO, "they have already waited");
}

#[tokio::test(start_paused = true)]
async fn batches_run_in_parallel_up_to_the_concurrency() {
    let bench = Bench::new(true);
    let _jobs = bench.join_all([1, 2, 3, 4, 5, 6]);
    settle().await;
    assert_eq!(bench.seen.batches(), [[1, 2, 3]]);
    bench.jobs.set_concurrency(2);
    settle().await;
    assert_eq!(bench.seen.batches(), [[1, 2, 3], [4, 5, 6]]);
}

#[tokio::test(start_paused = true)]
async fn at_shutdown_a_partial_batch_runs_at_once() {
    let bench = Bench::new(false);
    let began = Instant::now();
    let jobs = bench.join_all([1, 2]);
    settle().await;
    bench.drain.cancel();
    join_all(jobs).await;
    number(bench.join(3).await);
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(bench.seen.batches(), [vec![1, 2], vec![3]]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_leaves_the_batch_and_makes_room() {
    let bench = Bench::new(false);
    let began = Instant::now();
    let [first, second] = bench.join_all([1, 2]);
    settle().await;
    tokio::time::advance(MAX_WAIT / 2).await;
    drop(first);
    let third = bench.join(3);
    let outcomes = join_all([second, third]).await;
    assert_eq!(outcomes.into_iter().map(number).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(began.elapsed(), MAX_WAIT, "the second came as early");
    assert_eq!(bench.seen.batches(), [[2, 3]]);

    // All jobs leave, so the handler is not called.
    drop(bench.join_all([4, 5]));
    tokio::time::advance(MAX_WAIT * 2).await;
    settle().await;
    assert_eq!(bench.seen.batches().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_continues_until_all_its_jobs_are_cancelled() {
    let bench = Bench::new(true);
    let [first, second, third] = bench.join_all([1, 2, 3]);
    settle().await;
    assert_eq!(bench.seen.batches(), [[1, 2, 3]]);
    drop((first, third));
    bench.seen.gate.add_permits(1);
    assert_eq!(number(second.await), 2);

    // A call whose jobs have all left is dropped, which makes room for the next batch.
    drop({
        let jobs = bench.join_all([4, 5, 6]);
        settle().await;
        jobs
    });
    settle().await;
    assert_eq!(bench.seen.gate.available_permits(), 0);
    let next = bench.join(7);
    bench.seen.gate.add_permits(1);
    assert_eq!(number(next.await), 7);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_batch_fails_each_job_and_counts_once_for_the_breaker() {
    let bench = Bench::new(true);
    let [first, second, third] = bench.join_all([1, POISON, 3]);
    settle().await;
    drop(first);
    bench.seen.gate.add_permits(1);
    let failures: Vec<HandlerError> = join_all([second, third])
        .await
        .into_iter()
        .map(Result::unwrap_err)
        .collect();
    for failure in &failures {
        assert_eq!(failure.kind(), "panic");
        let message = failure.message();
        assert!(
            message.ends_with("poisoned (in a batch of 3 jobs)"),
            "{message}"
        );
    }
    let breakdowns: Vec<_> = failures.iter().map(HandlerError::is_breakdown).collect();
    assert_eq!(breakdowns, [Some(true), None]);
    bench.seen.gate.add_permits(1);
    assert_eq!(number(bench.join(4).await), 4, "the next is not affected");
}

#[tokio::test(start_paused = true)]
async fn an_infinite_max_wait_is_allowed() {
    let bench = Bench::waiting(false, Duration::MAX);
    let mut jobs = bench.join_all([1, 2]);
    settle().await;
    tokio::time::advance(Duration::from_hours(1000)).await;
    assert!(jobs[0].as_mut().now_or_never().is_none());
    let outcomes = join_all(jobs.into_iter().chain([bench.join(3)])).await;
    assert_eq!(
        outcomes.into_iter().map(number).collect::<Vec<_>>(),
        [1, 2, 3]
    );
}

/// Returns a batching in which the weight of an input is its value.
fn weighed(max: usize) -> Batching<Seen, u32> {
    let weight = |input: &u32| usize::try_from(*input).unwrap();
    Batching {
        weighing: Some(Weighing::new(weight, max)),
        ..batching(MAX_WAIT)
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_stays_within_max_weight() {
    let bench = Bench::of(false, weighed(10));
    let began = Instant::now();
    // The third job is too heavy to join the first two, and fills a batch alone. The last one waits for others.
    let [first, second, third, last] = bench.join_all([4, 5, 10, 1]);
    join_all([first, second, third]).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(bench.seen.batches(), [vec![4, 5], vec![10]]);
    assert_eq!(number(last.await), 1);
    assert_eq!(began.elapsed(), MAX_WAIT);

    // The maximum number of jobs still applies.
    join_all(bench.join_all([1, 1, 1])).await;
    assert_eq!(began.elapsed(), MAX_WAIT);
}

#[tokio::test(start_paused = true)]
async fn a_job_heavier_than_max_weight_runs_alone() {
    let bench = Bench::of(false, weighed(10));
    let began = Instant::now();
    join_all(bench.join_all([11, u32::MAX, 9, 2, 8])).await;
    let batches = [vec![11], vec![u32::MAX], vec![9], vec![2, 8]];
    assert_eq!(bench.seen.batches(), batches);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_heavy_job_makes_room() {
    let bench = Bench::of(true, weighed(10));
    let _busy = bench.join(10);
    settle().await;
    let [light, heavy, other] = bench.join_all([3, 9, 3]);
    drop(heavy);
    settle().await;
    bench.seen.gate.add_permits(2);
    join_all([light, other]).await;
    assert_eq!(bench.seen.batches(), [vec![10], vec![3, 3]]);
}

#[tokio::test(start_paused = true)]
async fn a_weight_that_panics_fails_its_own_job() {
    let weight = |input: &u32| {
        assert_ne!(*input, POISON, "weightless");
        1
    };
    let bench = Bench::of(
        false,
        Batching {
            weighing: Some(Weighing::new(weight, 10)),
            ..batching(MAX_WAIT)
        },
    );
    let good = bench.join(1);
    let bad = bench.call(POISON);
    let failure = Execution::begin(|| bad).outcome().await.unwrap_err();
    assert_eq!(failure.kind(), "panic");
    assert_eq!(number(good.await), 1);
}

#[test]
fn the_builder_overrides_flags_and_variables() {
    let settings = BatchOverrides {
        jobs: Some(0),
        wait: Some(Duration::ZERO),
        weight: Some(7),
    };
    let batching = settings.applied_to(weighed(10));
    assert_eq!(batching.max_batch, 1);
    assert_eq!(batching.max_wait, Duration::ZERO);
    assert_eq!(batching.weighing.unwrap().max, 7);
}
