//! Streams over a slow network, and the memory that a worker uses while the platform accepts no results.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use podwork::{Stream, Worker, handler, stream};
use podwork_tests::{Answer, Binary, Recorded, Scripted, job, start};
use serde_json::{Value, json};
use tokio::sync::watch;

fn outputs(posts: &[Recorded]) -> Vec<Value> {
    posts
        .iter()
        .map(|post| post.json()["output"].clone())
        .collect()
}

/// Yields the chunks of the job's input, and sets `out` to true after the last one.
#[handler(join)]
fn joined(chunks: Vec<Value>, out: &watch::Sender<bool>) -> impl Stream<Item = Value> {
    stream! {
        for chunk in chunks {
            yield chunk;
        }
        out.send_replace(true);
    }
}

/// Returns what the platform receives of `chunks` if all others are queued until it accepts the first one.
async fn posted_of(chunks: Vec<Value>) -> Vec<Value> {
    let (out, all_out) = watch::channel(false);
    let job = job("j", Value::Array(chunks));
    let platform =
        Scripted::start(
            move |request: &Recorded, before| match (request.call(), before) {
                ("job-take", 0) => Answer::Json(200, job.clone()),
                ("job-take" | "job-stop", _) => Answer::Hold,
                ("job-stream", 0) => Answer::When(all_out.clone(), Box::new(Answer::Status(200))),
                _ => Answer::Status(200),
            },
        )
        .await;
    let worker = start(Worker::new::<joined>().state(out), platform.env("w"));
    let last = platform.until("job-done", |posts| posts.len() == 1).await;
    assert_eq!(last[0].json(), json!({"output": []}));
    drop(worker);
    outputs(&platform.of("job-stream"))
}

#[tokio::test(flavor = "multi_thread")]
async fn queued_chunks_are_joined_if_the_handler_opts_in() {
    // The first chunk has a different type because others may or may not be queued before it is posted.
    let chunks = json!([{"of": "another kind"}, "a", "b\n\"", "é", [1], [], [2, [3]], 4, 5, "z"]);
    let posted = posted_of(chunks.as_array().unwrap().clone()).await;
    assert_eq!(
        posted,
        [
            json!({"of": "another kind"}),
            json!("ab\n\"é"),
            json!([1, 2, [3]]),
            json!(4),
            json!(5),
            json!("z"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn joined_chunks_stay_within_the_platforms_limit() {
    let part = "x".repeat(400 * 1000);
    let chunks = [vec![json!(0)], vec![json!(part); 6]].concat();
    let posted = posted_of(chunks).await;
    let lengths: Vec<_> = posted
        .iter()
        .map(|chunk| chunk.as_str().map_or(0, str::len))
        .collect();
    assert_eq!(lengths, [0, 800_000, 800_000, 800_000]);
}

#[handler]
fn texts(sizes: Vec<usize>) -> impl Stream<Item = String> {
    stream! {
        for size in sizes {
            yield "x".repeat(size);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_over_the_limit_fails_its_job_and_is_not_sent() {
    let platform = Scripted::start(
        |request: &Recorded, before| match (request.call(), before) {
            ("job-take", 0) => Answer::Json(200, job("j", json!([10, 2_000_000, 10]))),
            ("job-take" | "job-stop", _) => Answer::Hold,
            _ => Answer::Status(200),
        },
    )
    .await;
    let worker = start(Worker::new::<texts>(), platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 1).await;
    let report: Value = serde_json::from_str(posts[0].json()["error"].as_str().unwrap()).unwrap();
    assert_eq!(report["error_type"], "chunk_too_large");
    assert_eq!(
        report["error_message"],
        "the chunk is too large: 2000002 bytes, limit 1048576 bytes; upload it and return its URL instead"
    );
    assert_eq!(outputs(&platform.of("job-stream")), [json!("x".repeat(10))]);
    worker.stop().await.unwrap();
}

/// The maximum number of queued chunks, plus one in transit and one that the handler waits to yield.
const MOST_CHUNKS: usize = 1024 + 2;

/// Counts the chunks that it generates.
#[handler]
fn counted(chunks: usize, made: &Arc<AtomicUsize>) -> impl Stream<Item = usize> {
    stream! {
        for n in 0..chunks {
            made.fetch_add(1, Ordering::SeqCst);
            yield n;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_outpaces_the_platform_is_bounded() {
    let made = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let chunks = 6000;
    let platform = Scripted::start({
        let (made, most) = (Arc::clone(&made), Arc::clone(&most));
        move |request: &Recorded, before| match (request.call(), before) {
            ("job-take", 0) => Answer::Json(200, job("j", json!(chunks))),
            ("job-take" | "job-stop", _) => Answer::Hold,
            ("job-stream", accepted) => {
                let ahead = made.load(Ordering::SeqCst) - accepted;
                most.fetch_max(ahead, Ordering::SeqCst);
                Answer::Status(200)
            }
            _ => Answer::Status(200),
        }
    })
    .await;
    let worker = Worker::new::<counted>().state(made);
    let worker = start(worker, platform.env("w"));
    platform.until_count("job-done", 1).await;
    worker.stop().await.unwrap();
    assert_eq!(platform.of("job-stream").len(), chunks);
    let most = most.load(Ordering::SeqCst);
    assert!(most <= MOST_CHUNKS, "{most} chunks ahead");
    assert!(
        most > 100,
        "the generator does not wait for each post: {most}"
    );
}

/// The platform accepts none of the large results. The worker stops fetching jobs once 64 MiB of results are queued, so
/// memory is bounded by these results and the jobs that run at that moment.
#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_while_no_result_is_accepted() {
    const RESULT: usize = 9 * 1024 * 1024;

    let platform = Scripted::start(|request: &Recorded, before| match request.call() {
        "job-take" | "job-take-batch" => {
            let wanted = request
                .param("batch_size")
                .map_or(1, |n| n.parse().unwrap());
            let task = json!({"do": "large", "bytes": RESULT});
            let jobs: Vec<Value> = (0..wanted)
                .map(|n| job(&format!("j{before}-{n}"), task.clone()))
                .collect();
            match request.param("batch_size") {
                Some(_) => Answer::Json(200, Value::Array(jobs)),
                None => Answer::Json(200, jobs[0].clone()),
            }
        }
        "job-stop" => Answer::Hold,
        "job-done" => Answer::Status(503),
        _ => Answer::Status(200),
    })
    .await;
    let program = env!("CARGO_BIN_EXE_podwork-test-worker");
    let quiet = [("RUNPOD_LOG_LEVEL", "ERROR".to_owned())];
    let worker = Binary::new(program, &[])
        .env(platform.env("w"))
        .env(quiet)
        .start();
    // By then, the worker has posted each result several times, so it has fetched all the jobs that it would fetch.
    platform.until_count("job-done", 60).await;
    let taken: std::collections::BTreeSet<String> = platform
        .of("job-done")
        .into_iter()
        .map(|post| post.headers["x-request-id"].clone())
        .collect();
    // The 8th result reaches 64 MiB, and two jobs run at once.
    assert!(taken.len() <= 8 + 2, "{} jobs were taken", taken.len());
    let peak = worker.peak_memory();
    println!(
        "peak memory: {} MiB for {} jobs",
        peak / 1024 / 1024,
        taken.len()
    );
    // One body per job; the handler's text, its JSON and its body for the two running jobs; and the program itself.
    let bound = (10 + 2 * 3) * RESULT + 32 * 1024 * 1024;
    assert!(peak < bound, "{} MiB", peak / 1024 / 1024);
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_given_up_at_its_deadline() {
    let platform = Scripted::start(
        |request: &Recorded, before| match (request.call(), before) {
            ("job-take", 0) => Answer::Json(200, job("j", json!([1, 1, 1]))),
            ("job-take" | "job-stop", _) => Answer::Hold,
            ("job-stream", 1..) => Answer::Status(500),
            _ => Answer::Status(200),
        },
    )
    .await;
    let worker = Worker::new::<texts>().delivery_deadline(Duration::from_millis(300));
    let worker = start(worker, platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 1).await;
    let error = posts[0].json()["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("rejected a chunk: 500") && error.contains("gave up after 300ms"),
        "{error}"
    );
    worker.stop().await.unwrap();
}
