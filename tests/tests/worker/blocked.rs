//! Handlers that block every async thread or run too long, and how the worker keeps working.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use podwork::{Context, Worker, handler};
use podwork_tests::{Answer, Recorded, Scripted, job, start, start_on};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// A gate that blocks every caller until it is opened.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

/// Creates a runtime with one thread, so that one handler can block all of it.
fn one_thread() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn report(post: &Recorded) -> Value {
    serde_json::from_str(post.json()["error"].as_str().unwrap()).unwrap()
}

#[handler]
async fn blocks(first: bool, gate: &Arc<Gate>, cx: Context) -> bool {
    assert!(
        first,
        "a job that was cancelled before its start does not start"
    );
    cx.progress("blocking");
    // Blocking is a bug in an async handler, but it must not block the worker.
    gate.pass();
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_runtime_delays_no_pings_polls_posts_or_cancellations() {
    let (stop, stopping) = watch::channel(false);
    let told = Answer::Json(200, json!({"jobsToStop": ["second"]}));
    let platform =
        Scripted::start(
            move |request: &Recorded, before| match (request.call(), before) {
                ("job-take-batch", 0) => Answer::Json(200, json!([job("first", json!(true))])),
                ("job-take", 0) => Answer::Json(200, job("second", json!(false))),
                ("job-stop", 0) => Answer::When(stopping.clone(), Box::new(told.clone())),
                ("job-take" | "job-take-batch" | "job-stop", _) => Answer::Hold,
                _ => Answer::Status(200),
            },
        )
        .await;
    let handlers = one_thread();
    let gate = Arc::new(Gate::default());
    let worker = Worker::new::<blocks>()
        .state(Arc::clone(&gate))
        .concurrency(2);
    let worker = start_on(handlers.handle(), worker, platform.env("w"));

    // While the only thread is blocked, the worker posts progress.
    let posts = platform.until("job-done", |posts| posts.len() == 1).await;
    assert_eq!(posts[0].json()["output"], "blocking");
    // It fetches the second job and sends pings for more than three intervals.
    let both = |ping: &&Recorded| ping.param("job_id") == Some("first,second");
    platform
        .until("ping", |pings| pings.iter().filter(both).count() > 3)
        .await;
    // It handles the cancellation of the second job.
    stop.send(true).unwrap();
    let first_alone = |ping: &Recorded| ping.param("job_id") == Some("first");
    platform
        .until("ping", |pings| pings.last().is_some_and(first_alone))
        .await;
    // It also shuts down, once the gate is open.
    gate.open();
    platform.until("job-done", |posts| posts.len() == 2).await;
    worker.stop().await.unwrap();
    let posts = platform.of("job-done");
    assert_eq!(
        posts.len(),
        2,
        "nothing is posted for the cancelled job: {posts:#?}"
    );
    assert_eq!(posts[1].json(), json!({"output": true}));
    handlers.shutdown_background();
}

/// Records that it was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[handler]
async fn for_ever(dropped: &Arc<AtomicBool>) {
    let _held = Dropped(Arc::clone(dropped));
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_takes_too_long_fails_and_its_handler_is_dropped() {
    let platform = Scripted::start(
        |request: &Recorded, before| match (request.call(), before) {
            ("job-take", 0) => Answer::Json(200, job("long", Value::Null)),
            ("job-take" | "job-stop", _) => Answer::Hold,
            _ => Answer::Status(200),
        },
    )
    .await;
    let dropped = Arc::new(AtomicBool::new(false));
    let worker = Worker::new::<for_ever>()
        .state(Arc::clone(&dropped))
        .job_timeout(Duration::from_millis(50));
    let worker = start(worker, platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 1).await;
    let report = report(&posts[0]);
    assert_eq!(report["error_type"], "timeout");
    assert_eq!(
        report["error_message"],
        "job timed out: it exceeded the worker's limit of 50ms"
    );
    assert!(dropped.load(Ordering::SeqCst), "dropped before the post");
    worker.stop().await.unwrap();
}

static RUNNING: AtomicUsize = AtomicUsize::new(0);

#[handler]
fn stubborn(first: bool, gate: &Arc<Gate>, cx: Context) -> bool {
    assert_eq!(RUNNING.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
    if first {
        gate.pass();
        assert!(cx.is_cancelled());
    }
    RUNNING.fetch_sub(1, Ordering::SeqCst);
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timed_out_blocking_handler_fails_at_once_and_keeps_its_slot_until_it_returns() {
    let platform = Scripted::start(
        |request: &Recorded, before| match (request.call(), before) {
            ("job-take", 0) => Answer::Json(200, job("long", json!(true))),
            ("job-take", 1) => Answer::Json(200, job("next", json!(false))),
            ("job-take" | "job-stop", _) => Answer::Hold,
            _ => Answer::Status(200),
        },
    )
    .await;
    let gate = Arc::new(Gate::default());
    let worker = Worker::new::<stubborn>()
        .state(Arc::clone(&gate))
        .job_timeout(Duration::from_millis(200));
    let worker = start(worker, platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 1).await;
    assert_eq!(report(&posts[0])["error_type"], "timeout");
    // The error is delivered, so the job is no longer in flight, but its thread is still running.
    let none = |ping: &Recorded| ping.param("job_id").is_none();
    platform
        .until("ping", |pings| pings.last().is_some_and(none))
        .await;
    assert_eq!(platform.of("job-take").len(), 1);
    gate.open();
    let posts = platform.until("job-done", |posts| posts.len() == 2).await;
    assert_eq!(posts[1].json(), json!({"output": false}));
    worker.stop().await.unwrap();
}

/// Panics in its destructor.
struct Fragile;

impl Drop for Fragile {
    fn drop(&mut self) {
        panic!("in the destructor");
    }
}

#[handler]
async fn fragile(fails: bool) -> bool {
    if fails {
        let _held = Fragile;
        std::future::pending::<()>().await;
    }
    fails
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panicking_destructor_affects_only_its_own_job() {
    let platform = Scripted::start(
        |request: &Recorded, before| match (request.call(), before) {
            ("job-take", 0) => Answer::Json(200, job("fragile", json!(true))),
            ("job-take", 1) => Answer::Json(200, job("next", json!(false))),
            ("job-take" | "job-stop", _) => Answer::Hold,
            _ => Answer::Status(200),
        },
    )
    .await;
    let worker = Worker::new::<fragile>().job_timeout(Duration::from_millis(20));
    let worker = start(worker, platform.env("w"));
    let posts = platform.until("job-done", |posts| posts.len() == 2).await;
    assert_eq!(report(&posts[0])["error_type"], "timeout");
    assert_eq!(posts[1].json(), json!({"output": false}));
    worker.stop().await.unwrap();
}
