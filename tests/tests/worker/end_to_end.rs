//! Tests of workers on the local platform over real HTTP, from the view of a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use podwork::{Context, Result, Stream, Worker, handler, try_stream};
use podwork_platform::{JobEvent, Platform, StatusResponse};
use podwork_tests::{Answer, Recorded, Scripted, client, start, submit, within_a_minute};
use serde_json::{Value, json};
use tokio::sync::Notify;

#[handler]
async fn double(input: i64) -> Result<i64> {
    input
        .checked_mul(2)
        .ok_or_else(|| "too large to double".into())
}

#[handler]
fn countdown(from: u32, cx: Context) -> impl Stream<Item = Result<u32>> {
    try_stream! {
        for n in (1..=from).rev() {
            cx.progress(json!({ "left": n }));
            yield n;
        }
        if from == 13 {
            Err("cannot finish a countdown from 13")?;
        }
    }
}

/// Waits until a job has ended, and returns its final status and its chunks.
async fn ended(platform: &Platform, id: &str) -> (StatusResponse, Vec<Value>) {
    let mut chunks = Vec::new();
    let mut events = std::pin::pin!(platform.follow(id));
    while let Some(event) = events.next().await {
        match event {
            JobEvent::Chunk(chunk) => chunks.push(serde_json::from_str(chunk.get()).unwrap()),
            JobEvent::Finished(last) => return (last, chunks),
            _ => {}
        }
    }
    panic!("job {id} never ended");
}

fn message(status: &StatusResponse) -> String {
    let report: Value =
        serde_json::from_str(status.error.as_ref().unwrap().as_str().unwrap()).unwrap();
    report["error_message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_each_end_with_their_own_result() {
    let platform = Platform::builder().start().await.unwrap();
    let ids: Vec<String> = (0..500).map(|n| submit(&platform, &json!(n))).collect();
    let worker = start(
        Worker::new::<double>().concurrency(16),
        platform.worker_env("w"),
    );
    for (n, id) in ids.iter().enumerate() {
        let (last, _) = ended(&platform, id).await;
        assert_eq!(last.output.unwrap().get(), (2 * n).to_string());
    }
    platform.close();
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_reported_with_cause_and_position() {
    let platform = Platform::builder().start().await.unwrap();
    let worker = start(Worker::new::<double>(), platform.worker_env("w"));
    let (last, _) = ended(&platform, &submit(&platform, &json!(i64::MAX))).await;
    assert_eq!(message(&last), "too large to double");
    let (last, _) = ended(&platform, &submit(&platform, &json!("two"))).await;
    assert_eq!(
        message(&last),
        "invalid input: invalid type: string \"two\", expected i64 at line 1 column 5"
    );
    // The content of a file is not repeated.
    let content = "iVBORw0KGgo".repeat(10_000);
    let (last, _) = ended(&platform, &submit(&platform, &json!(content))).await;
    assert_eq!(
        message(&last),
        "invalid input: invalid type: string \"iVBORw0KGgoiVBORw0KGgoiVBORw0KGgoiVBORw…\", expected i64 at line 1 column \
         110002"
    );
    let (last, _) = ended(&platform, &submit(&platform, &json!(2))).await;
    assert_eq!(last.output.unwrap().get(), "4", "the worker continues");
    platform.close();
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_complete_or_with_their_error() {
    let platform = Platform::builder().start().await.unwrap();
    let worker = Worker::new::<countdown>().aggregate_stream(true);
    let worker = start(worker, platform.worker_env("w"));
    let (last, chunks) = ended(&platform, &submit(&platform, &json!(3))).await;
    assert_eq!(chunks, [3, 2, 1]);
    assert_eq!(last.output.unwrap().get(), "[3,2,1]");
    let (last, chunks) = ended(&platform, &submit(&platform, &json!(13))).await;
    assert_eq!(chunks.len(), 13, "chunks already sent are kept");
    assert_eq!(message(&last), "cannot finish a countdown from 13");
    platform.close();
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_drops_an_async_handler_and_its_sibling_continues() {
    struct Guard(Arc<AtomicBool>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[handler]
    async fn waits(name: String, dropped: &Arc<AtomicBool>, cx: Context) -> Result<()> {
        cx.progress(&name);
        if name == "long" {
            let _guard = Guard(Arc::clone(dropped));
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    let platform = Platform::builder().start().await.unwrap();
    let dropped = Arc::new(AtomicBool::new(false));
    let worker = Worker::new::<waits>()
        .state(Arc::clone(&dropped))
        .concurrency(2);
    let worker = start(worker, platform.worker_env("w"));
    let long = submit(&platform, &json!("long"));
    let mut events = Box::pin(platform.follow(&long));
    while !matches!(events.next().await.unwrap(), JobEvent::Progress(_)) {}
    let http = client();
    let cancelled = http
        .post(format!("{}/cancel/{long}", platform.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(
        cancelled.json::<Value>().await.unwrap()["status"],
        "CANCELLED"
    );
    let (last, _) = ended(&platform, &submit(&platform, &json!("short"))).await;
    assert_eq!(last.status.as_str(), "COMPLETED");
    platform.close();
    worker.stop().await.unwrap();
    assert!(dropped.load(Ordering::SeqCst), "its destructors ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_handler_sees_its_cancellation() {
    #[handler]
    fn spins(seen: &Arc<Notify>, cx: Context) {
        cx.progress("spinning");
        while !cx.is_cancelled() {
            std::thread::yield_now();
        }
        seen.notify_one();
    }

    let platform = Platform::builder().start().await.unwrap();
    let seen = Arc::new(Notify::new());
    let worker = start(
        Worker::new::<spins>().state(Arc::clone(&seen)),
        platform.worker_env("w"),
    );
    let id = submit(&platform, &Value::Null);
    let mut events = Box::pin(platform.follow(&id));
    while !matches!(events.next().await.unwrap(), JobEvent::Progress(_)) {}
    let http = client();
    http.post(format!("{}/cancel/{id}", platform.url()))
        .send()
        .await
        .unwrap();
    within_a_minute(seen.notified()).await;
    platform.close();
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_workers_share_a_queue() {
    let platform = Platform::builder().start().await.unwrap();
    let workers: Vec<_> = (0..4)
        .map(|n| {
            start(
                Worker::new::<double>().concurrency(2),
                platform.worker_env(&format!("w{n}")),
            )
        })
        .collect();
    let ids: Vec<String> = (0..200).map(|n| submit(&platform, &json!(n))).collect();
    for id in &ids {
        assert_eq!(ended(&platform, id).await.0.status.as_str(), "COMPLETED");
    }
    platform.close();
    for worker in workers {
        worker.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_fails_only_its_own_job() {
    #[handler]
    async fn divides(by: u32) -> u32 {
        100 / by
    }

    let platform = Platform::builder().start().await.unwrap();
    let worker = start(Worker::new::<divides>(), platform.worker_env("w"));
    let (last, _) = ended(&platform, &submit(&platform, &json!(0))).await;
    let said = message(&last);
    assert!(
        said.starts_with("panicked at tests/tests/worker/end_to_end.rs:"),
        "{said}"
    );
    assert!(said.ends_with("attempt to divide by zero"), "{said}");
    let (last, _) = ended(&platform, &submit(&platform, &json!(5))).await;
    assert_eq!(last.output.unwrap().get(), "20");
    platform.close();
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_input_that_does_not_fit_is_not_repeated_in_the_error() {
    let platform = Platform::builder().start().await.unwrap();
    let worker = start(Worker::new::<double>(), platform.worker_env("w"));
    // Each layer of JSON escapes the quotes, and the escapes of the layer below.
    let id = submit(&platform, &json!("\"".repeat(3 * 1024 * 1024)));
    let (status, _) = ended(&platform, &id).await;
    let message = message(&status);
    assert!(
        message.starts_with("invalid input: invalid type: string"),
        "{message}"
    );
    assert!(
        message.ends_with("expected i64 at line 1 column 6291458"),
        "{message}"
    );
    assert!(message.len() < 1000, "{}", message.len());
    worker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn webhook_urls_of_any_shape_are_supported() {
    let platform = Scripted::start(|request: &Recorded, _| match request.path.as_str() {
        "/next" if request.param("pod") == Some("w") => {
            Answer::Json(200, json!({ "id": "a", "input": 21 }))
        }
        _ => Answer::Status(200),
    })
    .await;
    let mut env = platform.env("w");
    for (name, value) in &mut env {
        match *name {
            "RUNPOD_WEBHOOK_GET_JOB" => *value = format!("{}next?pod=$ID", platform.url()),
            "RUNPOD_WEBHOOK_POST_OUTPUT" => *value = format!("{}done?job=$ID&", platform.url()),
            _ => {}
        }
    }
    let worker = start(Worker::new::<double>(), env);
    let done = |request: &Recorded| request.path == "/done";
    let posts = platform
        .until("", |requests| requests.iter().any(done))
        .await;
    let post = posts.iter().find(|post| done(post)).unwrap();
    assert_eq!(post.json(), json!({ "output": 42 }));
    worker.stop().await.unwrap();
}
