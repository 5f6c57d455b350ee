//! The test kit, used as in a user's own tests.

use podwork::testing::{Platform, TestWorker};
use podwork::{Context, Result, Stream, Worker, handler, try_stream};
use serde_json::json;

#[handler]
fn words(text: String, cx: Context) -> impl Stream<Item = Result<String>> {
    try_stream! {
        for (at, word) in text.split(' ').enumerate() {
            cx.progress(at);
            if word == "fail" {
                Err("requested failure")?;
            }
            yield word.to_owned();
        }
    }
}

#[handler]
async fn waits(cx: Context) {
    cx.cancelled().await;
}

#[tokio::test]
async fn a_job_shows_its_chunks_and_its_result() {
    let worker = TestWorker::start(Worker::new::<words>().aggregate_stream(true))
        .await
        .unwrap();
    let job = worker.run(json!("a b c")).await.unwrap();
    assert_eq!(job.outputs, [json!("a"), json!("b"), json!("c")]);
    assert_eq!(job.result.unwrap(), json!(["a", "b", "c"]));
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_failed_job_shows_its_error() {
    let worker = TestWorker::start(Worker::new::<words>()).await.unwrap();
    let job = worker.run(json!("a fail c")).await.unwrap();
    assert_eq!(job.outputs, [json!("a")]);
    let error = job.result.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        ("handler_error", "requested failure")
    );
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn exposes_the_local_platform_with_its_rules_and_faults() {
    let faults = "errors=0.2,dropped=0.1,seed=1".parse().unwrap();
    let builder = Platform::builder().rules("poll_hold=50ms".parse().unwrap());
    let platform = builder.faults(faults).start().await.unwrap();
    let worker = TestWorker::start_on(platform, Worker::new::<waits>());
    let request = serde_json::from_str(r#"{"input": null}"#).unwrap();
    let id = worker.platform().submit(request).unwrap();
    worker.platform().cancel(&id).unwrap();
    let ended = worker.platform().ended(&id).await.unwrap();
    assert_eq!(ended.status.as_str(), "CANCELLED");
    worker.stop().await.unwrap();
}

#[handler]
async fn needs(_input: u8, _model: &String) {}

#[tokio::test]
async fn run_fails_if_the_worker_has_ended() {
    let worker = Worker::new::<needs>().setup(|| Err::<String, _>("no weights here"));
    let worker = TestWorker::start(worker).await.unwrap();
    let error = worker.run(json!(1)).await.unwrap_err().to_string();
    assert_eq!(error, "the test job did not complete: its worker has ended");
    let why = worker.stop().await.unwrap_err().to_string();
    assert!(why.contains("no weights here"), "{why}");
}
