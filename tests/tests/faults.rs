//! Tests of faults between worker and platform. No job is lost or ends twice, every chunk arrives once and in order,
//! and no progress follows the result.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use podwork::{Context, Handler, Stream, Worker, handler, stream};
use podwork_tests::{Expected, Faults, Ledger, soak_options, start};
use serde_json::{Value, json};

#[handler]
async fn plain(n: usize) -> usize {
    tokio::task::yield_now().await;
    n
}

#[handler]
fn streaming(n: usize) -> impl Stream<Item = usize> {
    stream! {
        for chunk in 0..n % 7 {
            yield chunk;
        }
    }
}

#[handler]
async fn reporting(n: usize, cx: Context) -> usize {
    for step in 0..n % 7 {
        cx.progress(step);
        tokio::task::yield_now().await;
    }
    n
}

#[handler]
fn blocking(n: usize, cx: Context) -> usize {
    cx.progress(n);
    std::thread::yield_now();
    n
}

fn whole(n: usize) -> Expected {
    Expected {
        input: json!(n),
        output: json!(n),
        chunks: Vec::new(),
    }
}

fn in_chunks(n: usize) -> Expected {
    Expected {
        input: json!(n),
        output: json!([]),
        chunks: (0..n % 7).map(Value::from).collect(),
    }
}

/// Runs `jobs` jobs with a random seed under the given faults, and checks the ledger.
async fn run<H: Handler<State = ()>>(
    faults: Faults,
    concurrency: usize,
    jobs: usize,
    job: fn(usize) -> Expected,
) {
    let seed = fastrand::u64(..);
    run_seeded::<H>(seed, faults, concurrency, jobs, job, &[]).await;
}

/// Runs jobs like [`run`], but with a given seed and a short blackout at each number of finished jobs in `blackouts`.
async fn run_seeded<H: Handler<State = ()>>(
    seed: u64,
    faults: Faults,
    concurrency: usize,
    jobs: usize,
    job: fn(usize) -> Expected,
    blackouts: &[usize],
) {
    println!("{} at {concurrency}, seed {seed}: {faults:?}", H::NAME);
    let ledger = Ledger::start(seed, faults, (0..jobs).map(job)).await;
    let worker = Worker::new::<H>().concurrency(concurrency);
    let worker = start(worker, ledger.env("w"));
    for settled in blackouts {
        ledger.until_settled(*settled).await;
        ledger.set_up(false);
        tokio::time::sleep(Duration::from_millis(300)).await;
        ledger.set_up(true);
    }
    ledger.until_settled(jobs).await;
    worker.stop().await.unwrap();
    assert_eq!(ledger.counts(), (jobs, jobs));
    ledger.assert_sound();
}

/// Runs each kind of handler under the given faults, with a concurrency of 1 and of 8.
async fn matrix(faults: Faults) {
    join_all([1, 8].map(|concurrency| async move {
        tokio::join!(
            run::<plain>(faults, concurrency, 50, whole),
            run::<streaming>(faults, concurrency, 50, in_chunks),
            run::<reporting>(faults, concurrency, 50, whole),
            run::<blocking>(faults, concurrency, 50, whole),
        )
    }))
    .await;
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident: $faults:expr;)*) => {
        $(
            $(#[$doc])*
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                matrix($faults).await;
            }
        )*
    };
}

faults! {
    nothing_breaks: Faults::default();
    connections_drop: Faults { dropped: 10, ..Faults::default() };
    answers_are_lost: Faults { unanswered: 10, ..Faults::default() };
    answers_are_torn: Faults { torn: 20, ..Faults::default() };
    calls_fail: Faults { failing: 30, ..Faults::default() };
    calls_are_throttled: Faults { throttled: 30, ..Faults::default() };
    answers_are_slow: Faults { slow: 50, ..Faults::default() };
    jobs_are_handed_out_twice: Faults { again: 50, slow: 20, ..Faults::default() };
    there_is_no_stop_route: Faults { no_stop: true, ..Faults::default() };
    all_at_once: Faults {
        dropped: 5, unanswered: 5, torn: 5, failing: 5, throttled: 5, slow: 10, again: 10, no_stop: true,
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_jobs_while_a_third_of_the_posts_fail() {
    let faults = Faults {
        failing: 30,
        ..Faults::default()
    };
    run::<plain>(faults, 8, 1000, whole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blackout_of_15_seconds_loses_nothing() {
    let jobs = 400;
    let slow = Faults {
        slow: 100,
        ..Faults::default()
    };
    let ledger = Ledger::start(0, slow, (0..jobs).map(in_chunks)).await;
    let worker = start(Worker::new::<streaming>().concurrency(8), ledger.env("w"));
    ledger.until_settled(20).await;
    ledger.set_up(false);
    // The length of the blackout is what this test checks, so it has to wait.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let (handed_out, settled) = ledger.counts();
    assert!(handed_out > settled, "the blackout came in mid-run");
    // Hand out jobs again whose take was cut off, as a real platform does.
    ledger.set_faults(Faults {
        again: 50,
        ..Faults::default()
    });
    ledger.set_up(true);
    ledger.until_settled(jobs).await;
    worker.stop().await.unwrap();
    ledger.assert_sound();
}

/// Runs every kind of handler under random faults for `PODWORK_SOAK_SECONDS` (default: 60). `PODWORK_SOAK_SEED` repeats
/// the choices of an earlier run, but which call breaks still depends on timing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs for PODWORK_SOAK_SECONDS"]
async fn soak() {
    let (time, seed) = soak_options();
    let mut random = fastrand::Rng::with_seed(seed);
    let started = std::time::Instant::now();
    let mut rounds = 0;
    while started.elapsed() < time {
        let four = [(); 4].map(|()| {
            let faults = Faults::random(&mut random);
            let (concurrency, jobs) = (random.usize(1..=16), random.usize(30..=100));
            let blackouts = [random.usize(1..jobs)];
            let (seed, kind) = (random.u64(..), random.u8(0..4));
            async move {
                let (whole, parts) = (whole as fn(usize) -> Expected, in_chunks);
                let blackouts = &blackouts;
                match kind {
                    0 => run_seeded::<plain>(seed, faults, concurrency, jobs, whole, blackouts)
                        .boxed(),
                    1 => run_seeded::<streaming>(seed, faults, concurrency, jobs, parts, blackouts)
                        .boxed(),
                    2 => run_seeded::<reporting>(seed, faults, concurrency, jobs, whole, blackouts)
                        .boxed(),
                    _ => run_seeded::<blocking>(seed, faults, concurrency, jobs, whole, blackouts)
                        .boxed(),
                }
                .await;
            }
        });
        join_all(four).await;
        rounds += 4;
    }
    println!("{rounds} runs");
}
