//! Tests of what a worker posts, when it posts it, and how it handles posts that the platform does not accept.

use std::sync::atomic::{AtomicUsize, Ordering};

use podwork::{Context, Reply, Stream, Worker, handler, try_stream};
use podwork_tests::{Answer, Recorded, Scripted, job, start};
use serde_json::{Value, json};

#[handler]
async fn echo(input: Value) -> Value {
    input
}

#[handler]
async fn mixed(cx: Context) -> &'static str {
    cx.progress(json!({"step": 1}));
    tokio::task::yield_now().await;
    "done"
}

#[handler]
fn count(upto: u32) -> impl Stream<Item = podwork::Result<u32>> {
    try_stream! {
        for n in 1..=upto {
            yield n;
        }
    }
}

/// Streams each job except the last one, which has one output.
#[handler]
async fn counted_if_asked(chunks: Option<u32>) -> Reply<&'static str, u32> {
    match chunks {
        Some(chunks) => Reply::stream(futures::stream::iter(1..=chunks)),
        None => Reply::once("none"),
    }
}

#[handler]
async fn until_stopped(cx: Context) {
    cx.progress("waiting");
    std::future::pending::<()>().await;
}

/// Returns a script that hands out each of `jobs` once, and passes other calls to `others`.
fn handing_out(
    jobs: Vec<Value>,
    others: impl Fn(&Recorded, usize) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Recorded, usize) -> Answer + Send + Sync + 'static {
    let handed_out = AtomicUsize::new(0);
    move |request, before| match request.call() {
        "job-take" | "job-take-batch" => {
            let next = handed_out.fetch_add(1, Ordering::SeqCst);
            jobs.get(next)
                .map_or(Answer::Hold, |job| Answer::Json(200, job.clone()))
        }
        "job-stop" => Answer::Hold,
        _ => others(request, before),
    }
}

fn accept(_: &Recorded, _: usize) -> Answer {
    Answer::Status(200)
}

fn outputs(posts: &[Recorded]) -> Vec<Value> {
    posts
        .iter()
        .map(|post| post.json()["output"].clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_posted_until_it_is_accepted() {
    let faults = |request: &Recorded, before: usize| match (request.call(), before) {
        ("job-done", 0) => Answer::Status(500),
        ("job-done", 1) => Answer::Drop,
        ("job-done", 2) => Answer::RetryAfter(429, 0),
        ("job-done", 3) => Answer::Status(408),
        _ => Answer::Status(200),
    };
    let platform = Scripted::start(handing_out(vec![job("j", json!(1))], faults)).await;
    let worker = start(Worker::new::<echo>(), platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 5).await;
    worker.stop().await.unwrap();
    assert_eq!(
        platform.of("job-done").len(),
        5,
        "nothing is posted after it was accepted"
    );
    for post in posts {
        assert_eq!(post.json(), json!({"output": 1}));
        assert_eq!(post.headers["x-request-id"], "j");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permanently_rejected_result_becomes_a_small_error() {
    let refuse = |request: &Recorded, before: usize| match (request.call(), before) {
        ("job-done", 0) => Answer::Json(413, json!({"error": "payload too large"})),
        _ => Answer::Status(200),
    };
    let platform = Scripted::start(handing_out(vec![job("j", json!("big"))], refuse)).await;
    let worker = start(Worker::new::<echo>(), platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 2).await;
    worker.stop().await.unwrap();
    let report: Value = serde_json::from_str(posts[1].json()["error"].as_str().unwrap()).unwrap();
    assert_eq!(report["error_type"], "result_refused");
    let message = report["error_message"].as_str().unwrap();
    assert!(
        message.contains("413") && message.contains("payload too large"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_over_the_limit_is_reported_but_not_sent() {
    let input = json!("x".repeat(10 * 1024 * 1024));
    let jobs = vec![job("j", input.clone()), job("sync-j", input)];
    let platform = Scripted::start(handing_out(jobs, accept)).await;
    let worker = start(Worker::new::<echo>(), platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 2).await;
    worker.stop().await.unwrap();
    let of = |id: &str| {
        let mut posts = posts.iter();
        posts
            .find(|post| post.headers["x-request-id"] == id)
            .unwrap()
            .json()
    };
    assert!(
        of("sync-j")["output"].is_string(),
        "the limit of a synchronous job is 20 MiB"
    );
    let error = of("j")["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("10485762 bytes") && error.contains("10485760"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_arrive_in_order_before_the_result_despite_faults() {
    // Every third post fails, each in its own way.
    let faults = |request: &Recorded, before: usize| match (request.call(), before % 6) {
        ("job-stream", 1) => Answer::Status(503),
        ("job-stream", 4) => Answer::Drop,
        ("job-done", 0) => Answer::Status(502),
        _ => Answer::Status(200),
    };
    let platform = Scripted::start(handing_out(vec![job("j", json!(20))], faults)).await;
    let worker = start(Worker::new::<count>(), platform.env("w"));
    let finals = platform.until("job-done", |posts| posts.len() == 2).await;
    worker.stop().await.unwrap();
    let chunks = platform.of("job-stream");
    let accepted = chunks
        .iter()
        .enumerate()
        .filter(|(at, _)| !matches!(at % 6, 1 | 4));
    let accepted: Vec<Value> = accepted
        .map(|(_, post)| post.json()["output"].clone())
        .collect();
    assert_eq!(accepted, (1..=20).map(Value::from).collect::<Vec<_>>());
    assert_eq!(finals[1].json(), json!({"output": []}));
    assert_eq!(finals[1].param("isStream"), Some("true"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_marked_as_that_of_a_stream_if_its_job_streamed() {
    let jobs = [json!(2), json!(0), json!(null)];
    let jobs = jobs.iter().zip(["some", "empty", "once"]);
    let jobs = jobs.map(|(input, id)| job(id, input.clone())).collect();
    let platform = Scripted::start(handing_out(jobs, accept)).await;
    let worker = start(Worker::new::<counted_if_asked>(), platform.env("w"));
    let finals = platform.until("job-done", |posts| posts.len() == 3).await;
    worker.stop().await.unwrap();
    let seen: Vec<_> = finals
        .iter()
        .map(|post| {
            (
                post.json()["output"].clone(),
                post.param("isStream").unwrap(),
            )
        })
        .collect();
    let expected = [
        (json!([]), "true"),
        (json!([]), "true"),
        (json!("none"), "false"),
    ];
    assert_eq!(seen, expected);
    assert_eq!(outputs(&platform.of("job-stream")), [json!(1), json!(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_chunk_fails_the_job_with_the_reason() {
    let refuse = |request: &Recorded, before: usize| match (request.call(), before) {
        ("job-stream", 2) => Answer::Json(400, json!({"error": "no more"})),
        _ => Answer::Status(200),
    };
    let platform = Scripted::start(handing_out(vec![job("j", json!(1_000_000))], refuse)).await;
    let worker = start(Worker::new::<count>(), platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 1).await;
    worker.stop().await.unwrap();
    let error = posts[0].json()["error"].as_str().unwrap().to_owned();
    assert!(
        error.contains("chunk_refused") && error.contains("no more"),
        "{error}"
    );
    assert_eq!(
        outputs(&platform.of("job-stream")),
        [json!(1), json!(2), json!(3)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_never_posted_after_the_result() {
    let jobs: Vec<Value> = (0..50)
        .map(|n| job(&format!("j{n}"), Value::Null))
        .collect();
    let platform = Scripted::start(handing_out(vec![json!(jobs)], accept)).await;
    let worker = start(Worker::new::<mixed>().concurrency(50), platform.env("w"));
    let is_final = |post: &Recorded| post.json()["status"].is_null();
    let all_done = |posts: &[Recorded]| posts.iter().filter(|post| is_final(post)).count() == 50;
    platform.until("job-done", all_done).await;
    worker.stop().await.unwrap();
    let posts = platform.of("job-done");
    for n in 0..50 {
        let id = format!("j{n}");
        let own: Vec<_> = posts
            .iter()
            .filter(|post| post.headers["x-request-id"] == id)
            .collect();
        assert!(is_final(own.last().unwrap()), "{id}");
        assert_eq!(own.iter().filter(|post| is_final(post)).count(), 1, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_retried_until_superseded() {
    let faults = |request: &Recorded, before: usize| match (request.call(), before) {
        ("job-done", 0 | 1) => Answer::Status(500),
        _ => Answer::Status(200),
    };
    let platform = Scripted::start(handing_out(vec![job("j", Value::Null)], faults)).await;
    let worker = start(Worker::new::<until_stopped>(), platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 3).await;
    assert!(posts.iter().all(|post| post.json()["output"] == "waiting"));
    drop(worker);

    // Here, the result supersedes the progress.
    let never = |request: &Recorded, _: usize| match request.call() {
        "job-done" if request.json()["status"] == "IN_PROGRESS" => Answer::Status(500),
        _ => Answer::Status(200),
    };
    let platform = Scripted::start(handing_out(vec![job("j", Value::Null)], never)).await;
    let worker = start(Worker::new::<mixed>(), platform.env("w"));
    let is_final = |post: &Recorded| post.json()["output"] == "done";
    platform
        .until("job-done", |posts| posts.last().is_some_and(is_final))
        .await;
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_posted_for_a_cancelled_job_and_its_sibling_continues() {
    let jobs = json!([job("stopped", Value::Null), job("other", Value::Null)]);
    let (tell, told) = tokio::sync::watch::channel(false);
    let take = AtomicUsize::new(0);
    let platform = Scripted::start(move |request: &Recorded, before| match request.call() {
        "job-take-batch" if take.fetch_add(1, Ordering::SeqCst) == 0 => {
            Answer::Json(200, jobs.clone())
        }
        "job-stop" if !*told.borrow() => Answer::Status(204),
        "job-stop" if before > 0 => {
            Answer::Json(200, json!({"jobsToStop": ["unknown", "stopped"]}))
        }
        "job-take" | "job-take-batch" | "job-stop" => Answer::Hold,
        _ => Answer::Status(200),
    })
    .await;
    let worker = start(
        Worker::new::<until_stopped>().concurrency(2),
        platform.env("w"),
    );
    platform.until("job-done", |posts| posts.len() == 2).await;
    tell.send(true).unwrap();
    let only_other = |pings: &[Recorded]| {
        pings
            .last()
            .is_some_and(|ping| ping.param("job_id") == Some("other"))
    };
    platform.until("ping", only_other).await;
    let posts = platform.of("job-done");
    assert!(
        posts
            .iter()
            .all(|post| post.json()["status"] == "IN_PROGRESS"),
        "{posts:#?}"
    );
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_handed_out_twice_runs_once() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);

    #[handler]
    async fn counted(cx: Context) -> usize {
        let run = RUNS.fetch_add(1, Ordering::SeqCst);
        cx.progress("running");
        cx.cancelled().await;
        run
    }

    let twice = vec![
        job("j", Value::Null),
        job("j", Value::Null),
        job("k", Value::Null),
    ];
    let platform = Scripted::start(handing_out(twice, accept)).await;
    let worker = start(Worker::new::<counted>().concurrency(4), platform.env("w"));
    platform.until("job-done", |posts| posts.len() == 2).await;
    assert_eq!(RUNS.load(Ordering::SeqCst), 2);
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_jobs_are_skipped_and_failed_polls_are_retried() {
    let answers = [
        Answer::Status(500),
        Answer::Drop,
        Answer::RetryAfter(429, 0),
        Answer::Status(400),
        Answer::Status(204),
        Answer::Json(200, json!({"input": "no id"})),
        Answer::Json(200, json!("no job")),
        Answer::Json(200, job("good", json!("ok"))),
    ];
    let platform = Scripted::start(move |request: &Recorded, before| match request.call() {
        "job-take" => answers.get(before).cloned().unwrap_or(Answer::Hold),
        "job-stop" => Answer::Status(404),
        _ => Answer::Status(200),
    })
    .await;
    let worker = start(Worker::new::<echo>(), platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 1).await;
    assert_eq!(outputs(&posts), [json!("ok")]);
    assert!(
        platform.of("job-stop").len() <= 2,
        "a missing stop route is rarely polled again"
    );
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_ping_is_retried_before_the_next_is_due() {
    let faults = |request: &Recorded, before: usize| match (request.call(), before) {
        ("ping", 0) => Answer::Status(500),
        ("ping", 1) => Answer::RetryAfter(429, 0),
        ("ping", 2) => Answer::Drop,
        _ => Answer::Status(200),
    };
    let platform = Scripted::start(handing_out(Vec::new(), faults)).await;
    let mut env = platform.env("w");
    // The next ping is due after the test would have timed out.
    let interval = ("RUNPOD_PING_INTERVAL", "32000".to_owned());
    env.retain(|(name, _)| *name != interval.0);
    env.push(interval);
    let worker = start(Worker::new::<echo>(), env);
    platform.until("ping", |pings| pings.len() == 4).await;
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_handlers_run_in_parallel() {
    static TOGETHER: std::sync::Barrier = std::sync::Barrier::new(4);

    #[handler]
    fn meet() -> bool {
        // Returns only once four calls run at the same time.
        TOGETHER.wait();
        true
    }

    let jobs: Vec<Value> = (0..4).map(|n| job(&format!("j{n}"), Value::Null)).collect();
    let platform = Scripted::start(handing_out(vec![json!(jobs)], accept)).await;
    let worker = start(Worker::new::<meet>().concurrency(4), platform.env("w"));
    platform.until("job-done", |posts| posts.len() == 4).await;
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_job_of_the_last_poll_is_run() {
    let (bring, brought) = tokio::sync::watch::channel(false);
    let late = Answer::When(brought, Box::new(Answer::Json(200, job("late", json!(7)))));
    let platform = Scripted::start(move |request: &Recorded, _| match request.call() {
        "job-take" => late.clone(),
        "job-stop" => Answer::Hold,
        _ => Answer::Status(200),
    })
    .await;
    let worker = start(Worker::new::<echo>(), platform.env("w"));
    platform.until("job-take", |polls| polls.len() == 1).await;
    // The worker shuts down while a poll is open, and then the poll returns a job.
    let stopping = tokio::spawn(worker.stop());
    // All tasks share one thread, so the worker has seen the shutdown after enough yields.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    bring.send(true).unwrap();
    stopping.await.unwrap().unwrap();
    assert_eq!(outputs(&platform.of("job-done")), [json!(7)]);
    assert_eq!(platform.of("job-take").len(), 1, "no further poll");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refreshing_job_ends_the_worker_once_it_is_delivered() {
    #[handler]
    async fn refreshes(cx: Context) -> u8 {
        cx.refresh_worker();
        1
    }

    let jobs = vec![job("j", Value::Null), job("never", Value::Null)];
    let platform = Scripted::start(handing_out(jobs, accept)).await;
    let worker = start(Worker::new::<refreshes>(), platform.env("w"));
    worker.ended().await.unwrap();
    let posts = platform.of("job-done");
    assert_eq!(
        posts.len(),
        1,
        "no job is fetched after the one that requests the refresh"
    );
    assert_eq!(posts[0].json(), json!({"output": 1, "stopPod": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_outlives_the_grace_period_fails_with_the_reason() {
    let platform = Scripted::start(handing_out(vec![job("j", Value::Null)], accept)).await;
    let worker = Worker::new::<until_stopped>().shutdown_grace(std::time::Duration::from_millis(1));
    let worker = start(worker, platform.env("w"));
    platform.until("job-done", |posts| posts.len() == 1).await;
    let error = worker.stop().await.unwrap_err();
    assert_eq!(error.to_string(), "shut down with 1 job(s) unfinished");
    let posts = platform.of("job-done");
    let report = posts.last().unwrap().json()["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        report.contains("the worker shut down before the job finished"),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_setup_reports_the_worker_unhealthy() {
    #[handler]
    async fn needs(_model: &String) {}

    let platform = Scripted::start(accept).await;
    let worker = Worker::new::<needs>().setup(|| Err::<String, _>("no weights here"));
    let error = start(worker, platform.env("w")).ended().await.unwrap_err();
    assert!(error.to_string().contains("no weights here"), "{error}");
    let pings = platform.of("ping");
    assert_eq!(pings[0].param("status"), Some("unhealthy"));
    assert_eq!(pings[0].param("check"), Some("setup"));
    assert_eq!(pings[0].param("reason"), Some("no weights here"));
    assert!(platform.of("job-take").is_empty());
}
