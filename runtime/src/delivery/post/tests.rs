use std::collections::VecDeque;
use std::sync::Mutex;

use http_body_util::BodyExt as _;
use hyper::StatusCode;
use proptest::prelude::*;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::*;

/// The response of the simulated platform to one post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Accepted,
    /// Accepted, but the response is lost.
    Unanswered,
    /// Failed; a retry may succeed.
    Failed,
    /// Failed, with a delay before the next retry, in seconds.
    Later(u64),
    /// Rejected permanently.
    Refused,
}

/// A post that the platform has accepted.
#[derive(Debug, Clone, PartialEq)]
enum Taken {
    Progress(Value),
    Chunk { key: String, chunk: Value },
    Final(Value),
}

/// A simulated platform that handles each post by the next fate, and accepts all posts once no fate is left.
#[derive(Debug, Default)]
struct Simulated {
    fates: Mutex<VecDeque<Fate>>,
    taken: Mutex<Vec<Taken>>,
    /// The time of each call.
    calls: Mutex<Vec<Instant>>,
}

impl Simulated {
    fn new(fates: impl IntoIterator<Item = Fate>) -> Self {
        Self {
            fates: Mutex::new(fates.into_iter().collect()),
            ..Self::default()
        }
    }

    async fn take(&self, post: Taken) -> Result<(), CallError> {
        self.calls.lock().unwrap().push(Instant::now());
        sleep(Duration::from_millis(5)).await;
        let fate = self.fates.lock().unwrap().pop_front();
        let fate = fate.unwrap_or(Fate::Accepted);
        if matches!(fate, Fate::Accepted | Fate::Unanswered) {
            self.taken.lock().unwrap().push(post);
        }
        let passing = |after| {
            Err(CallError::Retryable {
                why: "500 Internal Server Error".to_owned(),
                after,
            })
        };
        match fate {
            Fate::Accepted => Ok(()),
            Fate::Unanswered | Fate::Failed => passing(None),
            Fate::Later(seconds) => passing(Some(Duration::from_secs(seconds))),
            Fate::Refused => Err(CallError::Refused {
                status: StatusCode::GONE,
                why: "410 Gone".to_owned(),
            }),
        }
    }
}

async fn read(body: Body) -> Value {
    let text = body.collect().await.unwrap().to_bytes();
    serde_json::from_slice(&text).unwrap()
}

impl Posts for Simulated {
    async fn post_result(&self, _: &str, _: bool, body: Body) -> Result<(), CallError> {
        let post = read(body).await;
        let post = if post["status"] == "IN_PROGRESS" {
            Taken::Progress(post["output"].clone())
        } else {
            Taken::Final(post)
        };
        self.take(post).await
    }

    async fn post_chunk(&self, _: &str, key: &str, body: Body) -> Result<(), CallError> {
        let post = read(body).await;
        let (key, chunk) = (key.to_owned(), post["output"].clone());
        self.take(Taken::Chunk { key, chunk }).await
    }
}

fn delivery(platform: Simulated) -> Delivery<Simulated> {
    Delivery {
        api: platform,
        identity: Identity {
            worker_id: "w".to_owned(),
            hostname: "h".to_owned(),
        },
        error_details: false,
        deadline: Duration::from_mins(15),
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

fn finish(outbox: &Outbox, outcome: Result<Value, HandlerError>) {
    outbox.finish(Final {
        outcome: outcome.map(|output| raw(&output)),
        refresh: false,
    });
}

#[tokio::test]
async fn a_large_output_is_wrapped_like_a_small_one() {
    for size in [0, MOST_COPIED - 2, MOST_COPIED - 1, 1_000_000] {
        let output = json!("x".repeat(size));
        let plain = Post::from_output(raw(&output));
        let mut full = Post::from_progress(raw(&output));
        full.stop_pod = true;
        for post in [plain, full] {
            let expected = serde_json::to_value(&post).unwrap();
            let body = encode(post);
            let told = hyper::body::Body::size_hint(&body).exact();
            let text = body.clone().collect().await.unwrap().to_bytes();
            assert_eq!(told, Some(text.len() as u64));
            assert_eq!(read(body).await, expected);
        }
    }
}

/// A step of a simulated handler.
#[derive(Debug, Clone)]
enum Step {
    Chunk,
    Progress,
    /// Waits for this time, in milliseconds.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Chunk),
        2 => Just(Step::Progress),
        1 => (0..400u64).prop_map(Step::Wait),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Accepted),
        2 => Just(Fate::Unanswered),
        3 => Just(Fate::Failed),
        1 => (0..3u64).prop_map(Fate::Later),
    ]
}

/// Runs a handler with these steps, and delivers its posts. Returns the chunks that it yielded, and the posts that the
/// platform accepted.
fn run(steps: Vec<Step>, fates: Vec<Fate>, join: bool, fails: bool) -> (String, Vec<Taken>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let outbox = Outbox::new(join, true);
        let delivery = delivery(Simulated::new(fates));
        let handler = async {
            let mut yielded = String::new();
            for (at, step) in steps.iter().enumerate() {
                match step {
                    Step::Chunk => {
                        let text = format!("<{at}>");
                        yielded.push_str(&text);
                        if outbox.chunk(raw(&json!(text))).await.is_err() {
                            break;
                        }
                    }
                    Step::Progress => outbox.progress(raw(&json!(at))),
                    Step::Wait(millis) => sleep(Duration::from_millis(*millis)).await,
                }
            }
            let outcome = if fails {
                Err("it failed".into())
            } else {
                Ok(json!([]))
            };
            finish(&outbox, outcome);
            yielded
        };
        let telemetry = JobTelemetry::default();
        let (yielded, outcome) = tokio::join!(handler, delivery.run("j", &outbox, &telemetry));
        let taken = delivery.api.taken.into_inner().unwrap();
        let ended_well =
            matches!(taken.last(), Some(Taken::Final(last)) if last["error"].is_null());
        assert_eq!(outcome == JobOutcome::Completed, ended_well);
        (yielded, taken)
    })
}

/// Concatenates the accepted chunks. A chunk that was posted several times counts once.
fn chunks(taken: &[Taken]) -> String {
    let mut last_key = "";
    let mut text = String::new();
    for post in taken {
        if let Taken::Chunk { key, chunk } = post
            && key != last_key
        {
            last_key = key;
            text.push_str(chunk.as_str().unwrap());
        }
    }
    text
}

/// Returns the final result, and asserts that only copies of it follow: it may be posted again if its response was
/// lost.
fn the_final(taken: &[Taken]) -> Value {
    let mut finals: Vec<Value> = taken
        .iter()
        .skip_while(|post| !matches!(post, Taken::Final(_)))
        .map(|post| match post {
            Taken::Final(last) => last.clone(),
            other => panic!("{other:?} follows the final result"),
        })
        .collect();
    finals.dedup();
    assert_eq!(finals.len(), 1, "{finals:?}");
    finals.remove(0)
}

proptest! {
    #[test]
    fn posts_arrive_in_order_despite_transient_failures(
        steps in prop::collection::vec(step(), 0..40),
        fates in prop::collection::vec(fate(), 0..60),
        join: bool,
        fails: bool,
    ) {
        let (yielded, taken) = run(steps, fates, join, fails);
        prop_assert_eq!(chunks(&taken), yielded);
        let last = the_final(&taken);
        prop_assert_eq!(last["error"].is_string(), fails);
        prop_assert_eq!(last["output"].is_array(), !fails);
        let progress: Vec<u64> = taken
            .iter()
            .filter_map(|post| match post {
                Taken::Progress(at) => at.as_u64(),
                _ => None,
            })
            .collect();
        prop_assert!(progress.is_sorted(), "{:?}", progress);
    }

    #[test]
    fn a_refused_chunk_fails_the_job_and_the_accepted_ones_are_a_prefix(
        steps in prop::collection::vec(step(), 0..40),
        fates in prop::collection::vec(fate(), 0..20),
        join: bool,
    ) {
        // No worker can know the outcome of a result whose response is lost and whose retry is rejected.
        let known = fates.into_iter().filter(|fate| *fate != Fate::Unanswered);
        let fates = known.chain([Fate::Refused]).collect();
        let (yielded, taken) = run(steps, fates, join, false);
        let came = chunks(&taken);
        prop_assert!(yielded.starts_with(&came));
        let last = the_final(&taken);
        // A rejected progress update is harmless.
        if came != yielded {
            prop_assert!(last["error"].as_str().unwrap().contains("410 Gone"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_is_retried_for_15_minutes_with_growing_delays() {
    let outbox = Outbox::default();
    finish(&outbox, Err("it failed".into()));
    let delivery = delivery(Simulated::new(vec![Fate::Failed; 10_000]));
    let started = Instant::now();
    let telemetry = JobTelemetry::default();
    let outcome = delivery.run("j", &outbox, &telemetry).await;
    assert_eq!(outcome, JobOutcome::Refused);
    let took = started.elapsed();
    let deadline = Duration::from_mins(15);
    assert!(
        took <= deadline && took + LONGEST_DELAY * 2 > deadline,
        "{took:?}"
    );
    let calls = delivery.api.calls.into_inner().unwrap();
    let gaps: Vec<Duration> = calls.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        gaps[0] >= FIRST_DELAY && gaps[0] <= FIRST_DELAY * 3,
        "{:?}",
        gaps[0]
    );
    assert!(
        gaps.iter()
            .all(|gap| *gap <= LONGEST_DELAY * 2 + FIRST_DELAY)
    );
    assert!((45..120).contains(&calls.len()), "{} calls", calls.len());
}

#[tokio::test(start_paused = true)]
async fn time_during_which_the_process_is_stopped_does_not_count() {
    let outbox = Outbox::default();
    finish(&outbox, Ok(json!(1)));
    let delivery = delivery(Simulated::new([Fate::Failed; 5]));
    let telemetry = JobTelemetry::default();
    let delivering = delivery.run("j", &outbox, &telemetry);
    tokio::pin!(delivering);
    // It is stopped during its first post and during a pause.
    for millis in [2, 20] {
        let running = tokio::time::timeout(Duration::from_millis(millis), &mut delivering).await;
        assert!(running.is_err(), "it is still retrying");
        tokio::time::advance(Duration::from_hours(1)).await;
    }
    assert_eq!(delivering.await, JobOutcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn retry_after_sets_the_delay_of_the_next_try() {
    let outbox = Outbox::default();
    finish(&outbox, Ok(json!(1)));
    let delivery = delivery(Simulated::new([Fate::Later(7), Fate::Later(30)]));
    let telemetry = JobTelemetry::default();
    let outcome = delivery.run("j", &outbox, &telemetry).await;
    assert_eq!(outcome, JobOutcome::Completed);
    let calls = delivery.api.calls.into_inner().unwrap();
    let gaps: Vec<u64> = calls
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs())
        .collect();
    assert_eq!(gaps, [7, 30]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_output_becomes_an_error_result_that_is_retried() {
    let outbox = Outbox::default();
    finish(&outbox, Ok(json!("large")));
    let fates = [Fate::Failed, Fate::Refused, Fate::Failed, Fate::Failed];
    let delivery = delivery(Simulated::new(fates));
    let outcome = delivery.run("j", &outbox, &JobTelemetry::default()).await;
    assert_eq!(outcome, JobOutcome::Refused);
    let taken = delivery.api.taken.into_inner().unwrap();
    let error = the_final(&taken)["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("result_refused") && error.contains("410 Gone"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn newer_progress_waits_for_the_pause_that_the_platform_requests() {
    let outbox = Outbox::default();
    let delivery = delivery(Simulated::new([Fate::Later(30)]));
    let handler = async {
        for value in 0..8000 {
            outbox.progress(raw(&json!(value)));
            sleep(Duration::from_millis(1)).await;
        }
        outbox.chunk(raw(&json!("chunk"))).await.unwrap();
        sleep(Duration::from_secs(40)).await;
        finish(&outbox, Ok(json!(1)));
    };
    let telemetry = JobTelemetry::default();
    let ((), outcome) = tokio::join!(handler, delivery.run("j", &outbox, &telemetry));
    assert_eq!(outcome, JobOutcome::Completed);
    let calls = delivery.api.calls.into_inner().unwrap();
    assert_eq!(calls.len(), 4, "progress, chunk, progress, result");
    assert_eq!((calls[2] - calls[0]).as_secs(), 30);
    let taken = delivery.api.taken.into_inner().unwrap();
    assert!(matches!(taken[0], Taken::Chunk { .. }));
    assert_eq!(taken[1], Taken::Progress(json!(7999)));
}

#[tokio::test(start_paused = true)]
async fn newer_progress_does_not_shorten_the_growing_delays() {
    let outbox = Outbox::default();
    let delivery = delivery(Simulated::new(vec![Fate::Failed; 10_000]));
    let handler = async {
        for value in 0..8000 {
            outbox.progress(raw(&json!(value)));
            sleep(Duration::from_millis(1)).await;
        }
    };
    let telemetry = JobTelemetry::default();
    let delivering = delivery.run("j", &outbox, &telemetry);
    tokio::select! {
        () = handler => {}
        _ = delivering => panic!("there is no result"),
    }
    let calls = delivery.api.calls.into_inner().unwrap().len();
    assert!((4..12).contains(&calls), "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn a_result_does_not_wait_for_the_pause_of_progress() {
    let outbox = Outbox::default();
    let delivery = delivery(Simulated::new([Fate::Later(30)]));
    let handler = async {
        outbox.progress(raw(&json!(1)));
        sleep(Duration::from_millis(100)).await;
        finish(&outbox, Ok(json!(1)));
    };
    let telemetry = JobTelemetry::default();
    let started = Instant::now();
    tokio::join!(handler, delivery.run("j", &outbox, &telemetry));
    assert!(started.elapsed() < Duration::from_secs(1));
}
