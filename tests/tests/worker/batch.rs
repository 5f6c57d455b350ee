//! Handlers that run a batch of jobs in one call, and the outcome of each job.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use podwork::{Batch, Handler, Result, Worker, handler};
use podwork_platform::{JobEvent, Platform, Rules, StatusResponse};
use podwork_tests::{Answer, Recorded, Running, Scripted, start, submit};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

/// The inputs of all handler calls, and a gate for which the calls wait.
struct Bench {
    batches: watch::Sender<Vec<Vec<u64>>>,
    gate: Semaphore,
}

impl Bench {
    /// Creates a bench whose gate lets `calls` calls pass.
    fn letting(calls: usize) -> Arc<Self> {
        Arc::new(Self {
            batches: watch::Sender::default(),
            gate: Semaphore::new(calls),
        })
    }

    fn open() -> Arc<Self> {
        Self::letting(Semaphore::MAX_PERMITS)
    }

    fn note(&self, batch: Vec<u64>) {
        self.batches.send_modify(|batches| batches.push(batch));
    }

    /// Returns the batches so far. The order of jobs within a batch is not significant.
    fn batches(&self) -> Vec<BTreeSet<u64>> {
        let batches = self.batches.borrow();
        batches
            .iter()
            .map(|batch| batch.iter().copied().collect())
            .collect()
    }

    /// Waits until the handler has been called `times` times.
    async fn called(&self, times: usize) {
        let mut batches = self.batches.subscribe();
        batches
            .wait_for(|batches| batches.len() >= times)
            .await
            .unwrap();
    }
}

#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate failure")]
struct Input {
    n: u64,
    #[serde(default)]
    fails: bool,
    #[serde(default)]
    panics: bool,
    /// If true, the handler returns too few results for the batch.
    #[serde(default)]
    forgets: bool,
    /// If true, the whole batch fails.
    #[serde(default)]
    spoils: bool,
}

/// Doubles each number, once the gate opens. A batch only starts when it is full, unless a test sets other limits.
#[handler(max_batch = 3, max_wait = "3600s")]
async fn double(inputs: Batch<Input>, bench: &Arc<Bench>) -> Result<Vec<Result<u64>>> {
    bench.note(inputs.iter().map(|input| input.n).collect());
    for (input, cx) in inputs.iter().zip(inputs.contexts()) {
        cx.progress(json!({ "job": cx.id(), "n": input.n }));
    }
    bench.gate.acquire().await?.forget();
    work(&inputs)
}

/// Doubles each number on a blocking thread.
#[handler(max_batch = 3, max_wait = Duration::from_hours(1))]
fn double_blocking(inputs: Batch<Input>, bench: &Arc<Bench>) -> Result<Vec<Result<u64>>> {
    bench.note(inputs.iter().map(|input| input.n).collect());
    work(&inputs)
}

/// Doubles each number. By weight, three jobs fill a batch.
#[handler(max_batch = 64, max_wait = "3600s", weight = |_: &Input| 4, max_weight = 12)]
fn double_weighed(inputs: Batch<Input>, bench: &Arc<Bench>) -> Result<Vec<Result<u64>>> {
    bench.note(inputs.iter().map(|input| input.n).collect());
    work(&inputs)
}

fn work(inputs: &Batch<Input>) -> Result<Vec<Result<u64>>> {
    assert!(!inputs.iter().any(|input| input.panics), "no memory");
    if inputs.iter().any(|input| input.spoils) {
        return Err("GPU lost".into());
    }
    let kept = inputs.iter().filter(|input| !input.forgets);
    let result = |input: &Input| {
        if input.fails {
            return Err(format!("cannot double {}", input.n).into());
        }
        Ok(2 * input.n)
    };
    Ok(kept.map(result).collect())
}

/// A platform with one worker.
struct Place {
    platform: Platform,
    worker: Running,
}

impl Place {
    async fn start<H: Handler<State = Arc<Bench>>>(
        bench: &Arc<Bench>,
        settings: impl FnOnce(Worker<H>) -> Worker<H>,
    ) -> Self {
        let rules: Rules = "run_rate=0,poll_hold=100ms".parse().unwrap();
        let platform = Platform::builder().rules(rules).start().await.unwrap();
        let worker = settings(Worker::new::<H>()).state(Arc::clone(bench));
        let worker = start(worker, platform.worker_env("w"));
        Self { platform, worker }
    }

    fn submit(&self, input: &Value) -> String {
        submit(&self.platform, input)
    }

    /// Submits jobs with these inputs, and returns their outcomes.
    async fn run(&self, inputs: &[Value]) -> Vec<Result<Value, String>> {
        let ids: Vec<String> = inputs.iter().map(|input| self.submit(input)).collect();
        self.outcomes(&ids).await
    }

    async fn outcomes(&self, ids: &[String]) -> Vec<Result<Value, String>> {
        join_all(ids.iter().map(|id| self.platform.ended(id)))
            .await
            .into_iter()
            .map(|status| outcome(&status.unwrap()))
            .collect()
    }

    /// Waits until the worker has fetched the job.
    async fn taken(&self, id: &str) {
        let mut events = std::pin::pin!(self.platform.follow(id));
        while !matches!(events.next().await.unwrap(), JobEvent::Started { .. }) {}
    }

    async fn stop(self) {
        self.platform.close();
        self.worker.stop().await.unwrap();
    }
}

/// Returns the output, or the error type and message, or else the status.
fn outcome(status: &StatusResponse) -> Result<Value, String> {
    if let Some(error) = &status.error {
        let report: Value = serde_json::from_str(error.as_str().unwrap()).unwrap();
        let text = |name: &str| report[name].as_str().unwrap().to_owned();
        return Err(format!("{}: {}", text("error_type"), text("error_message")));
    }
    let output = status.output.as_ref();
    output.map_or_else(
        || Err(status.status.as_str().to_owned()),
        |output| Ok(serde_json::from_str(output.get()).unwrap()),
    )
}

fn n(n: u64) -> Value {
    json!({ "n": n })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_of_a_batch_has_its_own_outcome() {
    async fn check<H: Handler<State = Arc<Bench>>>() {
        let bench = Bench::open();
        let place = Place::start::<H>(&bench, |worker| worker).await;
        // The job with the invalid input does not count towards the batch.
        let inputs = [
            n(1),
            json!({ "n": "two" }),
            json!({ "n": 3, "fails": true }),
            n(4),
        ];
        let outcomes = place.run(&inputs).await;
        assert_eq!(outcomes[0], Ok(json!(2)));
        let misfit = "invalid_input: invalid input at `n`: invalid type: string \"two\", expected u64 at line 1 column 10";
        assert_eq!(outcomes[1], Err(misfit.to_owned()));
        let failure = outcomes[2].as_ref().unwrap_err();
        assert!(failure.ends_with(": cannot double 3"), "{failure}");
        assert_eq!(outcomes[3], Ok(json!(8)));
        assert_eq!(bench.batches(), [BTreeSet::from([1, 3, 4])]);
        place.stop().await;
    }

    check::<double>().await;
    check::<double_blocking>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_batch_fails_all_its_jobs_and_no_others() {
    async fn check<H: Handler<State = Arc<Bench>>>() {
        let bench = Bench::open();
        let place = Place::start::<H>(&bench, |worker| worker.max_consecutive_failures(2)).await;
        let breaks = [
            (
                "panics",
                "panic: panicked at tests/tests/worker/batch.rs:",
                ": no memory (in a batch of 3 jobs)",
            ),
            (
                "forgets",
                "invalid_output: ",
                "the handler returned 2 results for 3 job(s): return one for each, in the order of the batch (in a batch \
                 of 3 jobs)",
            ),
            ("spoils", "", ": GPU lost (in a batch of 3 jobs)"),
        ];
        for (what, begin, end) in breaks {
            for failure in place
                .run(&[n(1), json!({ "n": 2, what: true }), n(3)])
                .await
            {
                let failure = failure.unwrap_err();
                assert!(failure.starts_with(begin), "{failure}");
                assert!(failure.ends_with(end), "{failure}");
            }
        }
        let outcomes = place.run(&[n(4), n(5), n(6)]).await;
        assert_eq!(outcomes, [8, 10, 12].map(|output| Ok(json!(output))));
        place.stop().await;
    }

    check::<double>().await;
    check::<double_blocking>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_reports_its_own_progress() {
    let bench = Bench::letting(0);
    let place = Place::start::<double>(&bench, |worker| worker).await;
    let ids = [1, 2, 3].map(|number| place.submit(&n(number)));
    for (id, number) in ids.iter().zip(1..) {
        let mut events = std::pin::pin!(place.platform.follow(id));
        let told = loop {
            if let JobEvent::Progress(progress) = events.next().await.unwrap() {
                break serde_json::from_str::<Value>(progress.get()).unwrap();
            }
        };
        assert_eq!(told, json!({ "job": id, "n": number }));
    }
    bench.gate.add_permits(1);
    let outcomes = place.outcomes(&ids).await;
    assert_eq!(outcomes, [2, 4, 6].map(|output| Ok(json!(output))));
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_batch_starts_after_max_wait() {
    let bench = Bench::open();
    let place =
        Place::start::<double>(&bench, |worker| worker.max_wait(Duration::from_millis(5))).await;
    assert_eq!(place.run(&[n(1)]).await, [Ok(json!(2))]);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_jobs_fill_a_batch_sooner() {
    let inputs: Vec<Value> = (1..=6).map(n).collect();
    let outcomes: Vec<_> = (1..=6).map(|n| Ok(json!(2 * n))).collect();
    for (max_weight, size) in [(None, 3), (Some(8), 2), (Some(1), 1)] {
        let bench = Bench::open();
        let place = Place::start::<double_weighed>(&bench, |worker| match max_weight {
            Some(weight) => worker.max_weight(weight),
            None => worker,
        })
        .await;
        assert_eq!(place.run(&inputs).await, outcomes);
        let batches = bench.batches();
        assert!(
            batches.iter().all(|batch| batch.len() == size),
            "{batches:?}"
        );
        place.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_forms_while_the_handler_is_busy() {
    let bench = Bench::letting(0);
    let place = Place::start::<double>(&bench, |worker| worker).await;
    let first: Vec<String> = (1..=3).map(|number| place.submit(&n(number))).collect();
    bench.called(1).await;
    let second: Vec<String> = (4..=6).map(|number| place.submit(&n(number))).collect();
    for id in &second {
        place.taken(id).await;
    }
    assert_eq!(bench.batches().len(), 1, "one batch runs at a time");
    bench.gate.add_permits(2);
    let outcomes = place.outcomes(&[first, second].concat()).await;
    let expected = [2, 4, 6, 8, 10, 12].map(|output| Ok(json!(output)));
    assert_eq!(outcomes, expected);
    let batches = [[1, 2, 3], [4, 5, 6]].map(BTreeSet::from);
    assert_eq!(bench.batches(), batches);
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_dropped_once_all_its_jobs_are_cancelled() {
    let bench = Bench::letting(0);
    let place = Place::start::<double>(&bench, |worker| worker).await;
    let stopped: Vec<String> = (1..=3).map(|number| place.submit(&n(number))).collect();
    bench.called(1).await;
    for id in &stopped {
        place.platform.cancel(id).unwrap();
    }
    // One batch runs at a time, so the second call proves that the first one was dropped.
    let next: Vec<String> = (4..=6).map(|number| place.submit(&n(number))).collect();
    bench.called(2).await;
    bench.gate.add_permits(1);
    let outcomes = place.outcomes(&next).await;
    assert_eq!(outcomes, [8, 10, 12].map(|output| Ok(json!(output))));
    place.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_is_removed_from_the_forming_batch() {
    let (stop, stopping) = watch::channel(false);
    let job = |id: &str, number: u64| json!({ "id": id, "input": n(number) });
    let first = json!([job("a", 1)]);
    let others = json!([job("b", 2), job("c", 3), job("d", 4)]);
    let told = Answer::Json(200, json!({ "jobsToStop": ["a"] }));
    let handed_out = AtomicBool::new(false);
    let platform = Scripted::start(move |request: &Recorded, before| {
        let has_room = request.param("batch_size") == Some("6");
        match (request.call(), before) {
            ("job-take-batch", 0) => Answer::Json(200, first.clone()),
            // The worker polls for six jobs again once the first job is cancelled.
            ("job-take-batch", _) if has_room && !handed_out.swap(true, Ordering::SeqCst) => {
                Answer::Json(200, others.clone())
            }
            ("job-take-batch", _) if !has_room => Answer::Status(204),
            ("job-stop", 0) => Answer::When(stopping.clone(), Box::new(told.clone())),
            ("job-take" | "job-take-batch" | "job-stop", _) => Answer::Hold,
            _ => Answer::Status(200),
        }
    })
    .await;
    let bench = Bench::open();
    let worker = Worker::new::<double>().state(Arc::clone(&bench));
    let worker = start(worker, platform.env("w"));

    platform
        .until("job-take-batch", |takes| takes.len() == 2)
        .await;
    stop.send(true).unwrap();
    let outputs = |posts: &[Recorded]| -> BTreeSet<u64> {
        let outputs = posts.iter().map(|post| post.json()["output"].as_u64());
        outputs.flatten().collect()
    };
    let all = BTreeSet::from([4, 6, 8]);
    platform
        .until("job-done", |posts| outputs(posts) == all)
        .await;
    worker.stop().await.unwrap();
    assert_eq!(bench.batches(), [BTreeSet::from([2, 3, 4])]);
    let of_first = |post: &Recorded| post.path.split('/').any(|part| part == "a");
    let posts = platform.of("job-done");
    assert!(
        !posts.iter().any(of_first),
        "nothing is posted for the cancelled job"
    );
}

/// Starts a platform that answers the first batch polls with `takes`, and holds all later ones.
async fn answering<const N: usize>(takes: [Answer; N]) -> Scripted {
    let script = move |request: &Recorded, before: usize| match request.call() {
        "job-take-batch" => takes.get(before).cloned().unwrap_or(Answer::Hold),
        "job-take" | "job-stop" => Answer::Hold,
        _ => Answer::Status(200),
    };
    Scripted::start(script).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_poll_requests_enough_jobs_to_fill_the_batches() {
    let platform = answering([]).await;
    let bench = Bench::open();
    let worker = Worker::new::<double>().concurrency(4).max_batch(5);
    let worker = start(worker.state(bench), platform.env("w"));
    let takes = platform
        .until("job-take-batch", |takes| !takes.is_empty())
        .await;
    assert_eq!(takes[0].param("batch_size"), Some("25"));
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_runs_an_incomplete_batch() {
    let bench = Bench::open();
    let place = Place::start::<double>(&bench, |worker| worker).await;
    let ids = [place.submit(&n(1)), place.submit(&n(2))];
    for id in &ids {
        place.taken(id).await;
    }
    let Place { platform, worker } = place;
    worker.stop().await.unwrap();
    let outcomes = ids.map(|id| outcome(&platform.status(&id).unwrap()));
    assert_eq!(outcomes, [Ok(json!(2)), Ok(json!(4))]);
}

/// Ignores cancellation until the gate opens.
#[handler(max_batch = 2, max_wait = "1ms")]
fn stubborn(inputs: Batch<Input>, bench: &Arc<Bench>) -> Result<Vec<Result<u64>>> {
    bench.note(inputs.iter().map(|input| input.n).collect());
    tokio::runtime::Handle::current()
        .block_on(bench.gate.acquire())?
        .forget();
    work(&inputs)
}

/// Starts a worker with the `stubborn` handler.
fn start_stubborn(bench: &Arc<Bench>, most: usize, platform: &Scripted) -> Running {
    let worker = Worker::new::<stubborn>()
        .state(Arc::clone(bench))
        .max_batch(most)
        .job_timeout(Duration::from_millis(500));
    start(worker, platform.env("w"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_jobs_are_fetched_while_a_timed_out_batch_still_runs() {
    let jobs = |from: u64| {
        let job = |number: u64| json!({ "id": number.to_string(), "input": n(number) });
        Answer::Json(200, json!([job(from), job(from + 1)]))
    };
    // The second batch arrives only after the first one has timed out. Its jobs must be ready when the handler has
    // finished the first batch.
    let (stuck, is_stuck) = watch::channel(false);
    let second = Answer::When(is_stuck, Box::new(jobs(3)));
    let platform = answering([jobs(1), second, jobs(5)]).await;
    let bench = Bench::letting(0);
    let worker = start_stubborn(&bench, 2, &platform);
    platform.until_count("job-done", 2).await;
    stuck.send_replace(true);
    let posts = platform.until("job-done", |posts| posts.len() == 4).await;
    assert!(posts.iter().all(|post| post.body.contains("timeout")));
    let none = |ping: &Recorded| ping.param("job_id").is_none();
    platform
        .until("ping", |pings| pings.last().is_some_and(none))
        .await;
    assert_eq!(platform.of("job-take-batch").len(), 2);
    assert_eq!(bench.batches(), [BTreeSet::from([1, 2])]);
    bench.gate.add_permits(2);
    let posts = platform.until("job-done", |posts| posts.len() == 6).await;
    let outputs: BTreeSet<_> = posts[4..].iter().map(|post| post.body.clone()).collect();
    assert_eq!(
        outputs,
        BTreeSet::from([r#"{"output":10}"#.to_owned(), r#"{"output":12}"#.to_owned()])
    );
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_jobs_are_fetched_to_fill_up_a_timed_out_batch() {
    for most in [4, usize::MAX] {
        let (stuck, is_stuck) = watch::channel(false);
        let first = Answer::Json(200, json!([{ "id": "1", "input": n(1) }]));
        let second = Answer::When(is_stuck, Box::new(Answer::Status(204)));
        let platform = answering([first, second]).await;
        let bench = Bench::letting(0);
        let worker = start_stubborn(&bench, most, &platform);
        platform.until_count("job-done", 1).await;
        stuck.send_replace(true);
        // By then, the worker would have polled.
        let pings = platform.of("ping").len();
        platform.until_count("ping", pings + 2).await;
        let takes = |call: &str| platform.of(call).len();
        assert_eq!((takes("job-take-batch"), takes("job-take")), (2, 0));
        bench.gate.add_permits(1);
        platform.until_count("job-take-batch", 3).await;
        worker.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_timeout_includes_the_wait_for_a_full_batch() {
    let bench = Bench::open();
    let place = Place::start::<double>(&bench, |worker| {
        worker.job_timeout(Duration::from_millis(20))
    })
    .await;
    let outcomes = place.run(&[n(1)]).await;
    let failure = outcomes[0].as_ref().unwrap_err();
    assert!(failure.starts_with("timeout: "), "{failure}");
    assert!(bench.batches().is_empty());
    place.stop().await;
}

/// The batches that the handler `many` has seen.
#[derive(Default)]
struct Many {
    sizes: Mutex<Vec<usize>>,
    /// The jobs whose batch panicked.
    broken: Mutex<BTreeSet<u64>>,
}

#[handler(max_batch = 16, max_wait = "1ms")]
async fn many(inputs: Batch<Input>, seen: &Arc<Many>) -> Vec<Result<u64>> {
    seen.sizes.lock().unwrap().push(inputs.len());
    if inputs.iter().any(|input| input.panics) {
        let broken = inputs.iter().map(|input| input.n);
        seen.broken.lock().unwrap().extend(broken);
        panic!("poisoned");
    }
    tokio::task::yield_now().await;
    let result = |input: &Input| {
        if input.fails {
            return Err(format!("{} fails", input.n).into());
        }
        Ok(2 * input.n)
    };
    inputs.iter().map(result).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_each_have_their_own_outcome() {
    const JOBS: u64 = 10_000;
    const SEED: u64 = 7;

    let mut random = fastrand::Rng::with_seed(SEED);
    let rules: Rules = "run_rate=0,poll_hold=100ms".parse().unwrap();
    let platform = Platform::builder().rules(rules).start().await.unwrap();
    let seen = Arc::new(Many::default());
    let worker = Worker::new::<many>()
        .concurrency(4)
        .state(Arc::clone(&seen));
    let worker = start(worker, platform.worker_env("w"));
    let kinds: Vec<u8> = (0..JOBS).map(|_| random.u8(0..100)).collect();
    let input = |number: usize| match kinds[number] {
        0..10 => json!({ "n": number, "fails": true }),
        10..15 => json!({ "n": number.to_string() }),
        15 if number.is_multiple_of(4) => json!({ "n": number, "panics": true }),
        _ => json!({ "n": number }),
    };
    let mut ids = Vec::new();
    let mut cancelled = BTreeSet::new();
    for number in 0..kinds.len() {
        let request = serde_json::from_value(json!({ "input": input(number) })).unwrap();
        ids.push(platform.submit(request).unwrap());
        // Cancel some jobs that are queued, and some that the worker has fetched by now.
        if random.u8(0..10) == 0 {
            let which = random.usize(number.saturating_sub(200)..=number);
            platform.cancel(&ids[which]).unwrap();
            cancelled.insert(which);
        }
        if number % 50 == 0 {
            platform
                .ended(&ids[number.saturating_sub(100)])
                .await
                .unwrap();
        }
    }

    let mut counts = [0; 5];
    for (number, id) in ids.iter().enumerate() {
        let outcome = outcome(&platform.ended(id).await.unwrap());
        let broken = seen.broken.lock().unwrap().contains(&(number as u64));
        let at = match outcome {
            Ok(output) => {
                assert_eq!(output, json!(2 * number));
                assert!(!broken && (kinds[number] >= 15), "{number}");
                0
            }
            Err(failure) if failure == "CANCELLED" => {
                assert!(cancelled.contains(&number), "{number}");
                1
            }
            Err(failure) if failure.starts_with("panic: ") => {
                assert!(
                    broken && failure.contains(": poisoned"),
                    "{number}: {failure}"
                );
                2
            }
            Err(failure) if failure.starts_with("invalid_input: ") => {
                assert!((10..15).contains(&kinds[number]), "{number}: {failure}");
                3
            }
            Err(failure) => {
                assert!(failure.ends_with(&format!(": {number} fails")), "{failure}");
                assert!(!broken && kinds[number] < 10, "{number}");
                4
            }
        };
        counts[at] += 1;
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    let sizes = seen.sizes.lock().unwrap().clone();
    assert!(sizes.iter().all(|size| (1..=16).contains(size)));
    assert!(sizes.iter().any(|size| *size > 1), "no batch ever formed");
    println!(
        "seed {SEED}: {counts:?} completed, cancelled, panicked, invalid, failed; {} batches",
        sizes.len()
    );
    platform.close();
    worker.stop().await.unwrap();
}
