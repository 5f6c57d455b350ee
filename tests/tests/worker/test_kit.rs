//! The test kit, used as in a user's own tests.

use podwork::state::Setup;
use podwork::testing::{Platform, TestJob, TestWorker};
use podwork::{Context, Error, HandlerError, Result, Stream, Worker, handler, try_stream};
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

/// Returns why a worker with this set-up did not start.
async fn why<M>(setup: impl Setup<String, M>) -> String {
    let worker = Worker::new::<needs>().setup(setup);
    let worker = TestWorker::start(worker).await.unwrap();
    worker.run(json!(1)).await.unwrap_err(); // waits until the worker has ended
    let error = worker.stop().await.unwrap_err();
    assert!(matches!(error, Error::Setup(_)), "{error:?}");
    error.to_string()
}

// The standard library's errors do not name the file.
const MISSING: &str = "the worker's set-up failed: No such file or directory (os error 2)\n";

fn load() -> Result<String> {
    Ok(std::fs::read_to_string("/no/such/weights")?)
}

const LOAD_LINE: u32 = line!() - 3;

async fn load_async() -> Result<String> {
    load()
}

fn load_without_conversion() -> std::io::Result<String> {
    std::fs::read_to_string("/no/such/weights")
}

fn load_with_path() -> Result<String> {
    let path = "/no/such/weights";
    let read = std::fs::read_to_string(path);
    Ok(read.map_err(|error| format!("cannot read {path}: {error}"))?)
}

#[tokio::test]
async fn an_error_of_the_setup_shows_its_place_and_the_function() {
    let place = format!("at tests/tests/worker/test_kit.rs:{LOAD_LINE}\n");
    let error = why(load).await;
    assert!(error.starts_with(&format!("{MISSING}{place}")), "{error}");
    assert!(error.ends_with("test_kit::load"), "{error}");
    let error = why(load_async).await;
    assert!(error.starts_with(&format!("{MISSING}{place}")), "{error}");
    assert!(error.ends_with("test_kit::load_async"), "{error}");
    let error = why(load_without_conversion).await;
    assert!(error.starts_with(&format!("{MISSING}in ")), "{error}");
    assert!(
        error.ends_with("test_kit::load_without_conversion"),
        "{error}"
    );
    let error = why(load_with_path).await;
    assert!(
        error.contains("cannot read /no/such/weights: No such file"),
        "{error}"
    );
    let error = why(|| Err::<String, _>(HandlerError::new("no_weights", "no weights here"))).await;
    assert!(
        error.contains("no weights here\nat tests/tests/worker/"),
        "{error}"
    );
    assert!(error.contains("{{closure}}"), "{error}");
}

#[tokio::test]
async fn the_place_of_an_error_is_for_the_log_and_not_for_clients() {
    #[handler]
    async fn reads(_input: u8) -> Result<String> {
        load()
    }

    let job = TestJob::new(json!(1)).run::<reads>().await;
    let error = job.result.unwrap_err();
    assert_eq!(error.message(), "No such file or directory (os error 2)");
    assert!(format!("{error:?}").contains("test_kit.rs:"), "{error:?}");
}

#[handler]
async fn measures(cx: Context) {
    cx.percent(40);
    cx.percent(0.5);
    cx.percent(-1.0);
    cx.percent(250_u16);
    cx.percent(f64::NAN);
}

#[tokio::test]
async fn percentages_are_between_0_and_100() {
    let job = TestJob::new(json!(null)).run::<measures>().await;
    let expected = [40.0, 0.5, 0.0, 100.0].map(|percent| json!({ "percent": percent }));
    assert_eq!(job.progress, expected);
}

/// Returns whether rustls has a default provider, and creates a configuration with it. Without one, rustls panics in a
/// program with several providers.
#[handler]
async fn tls() -> bool {
    let has_default = rustls::crypto::CryptoProvider::get_default().is_some();
    drop(rustls::ClientConfig::builder());
    has_default
}

/// Runs in a process in which nothing else chooses a provider.
#[tokio::test]
#[ignore = "run by the test below"]
async fn a_job_uses_rustls() {
    let job = TestJob::new(json!(null)).run::<tls>().await;
    assert_eq!(job.result.unwrap(), json!(true));
}

/// Runs in a process in which nothing else chooses a provider.
#[tokio::test]
#[ignore = "run by the test below"]
async fn a_job_of_a_worker_uses_rustls() {
    let worker = TestWorker::start(Worker::new::<tls>()).await.unwrap();
    let job = worker.run(json!(null)).await.unwrap();
    assert_eq!(job.result.unwrap(), json!(true));
    worker.stop().await.unwrap();
}

#[test]
fn a_handler_may_use_rustls_whichever_providers_the_program_is_built_with() {
    for test in ["a_job_uses_rustls", "a_job_of_a_worker_uses_rustls"] {
        let name = format!("test_kit::{test}");
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", &name])
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("1 passed"), "{shown}");
    }
}
