//! Tests the Rust client with a `tokens` worker. Usage: rust-client BASE_URL

use runpod_sdk::RunpodConfig;
use runpod_sdk::serverless::{JobStatus, ServerlessEndpoint, ServerlessJob};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::args().nth(1).expect("BASE_URL");
    let client = RunpodConfig::builder()
        .with_api_key("any")
        .with_api_url(url)
        .build_client()
        .expect("a client");
    let endpoint = ServerlessEndpoint::new("local", client);

    let health = endpoint.health().await.expect("health");
    assert_eq!(health.workers.ready, 1);

    let output: Value = endpoint
        .run_now(&json!({ "prompt": "to be" }))
        .await
        .expect("run_now");
    assert_eq!(output, json!([]));

    // The client submits a job when it is first polled.
    let mut job = endpoint
        .run(&json!({ "prompt": "a b c", "delay_ms": 200 }))
        .expect("run");
    submitted(&mut job).await;
    let mut chunks = Vec::new();
    loop {
        let (status, more) = job.stream().await.expect("stream");
        chunks.extend(more.into_iter().map(|chunk| chunk.output));
        if status.is_final() {
            break;
        }
    }
    assert_eq!(chunks, [json!("a"), json!("b"), json!("c")]);
    assert_eq!(job.status().await.expect("status"), JobStatus::Completed);
    assert_eq!(job.output::<Value>().await.expect("output"), json!([]));

    let mut long = endpoint
        .run(&json!({ "prompt": "never", "delay_ms": 3_600_000 }))
        .expect("run");
    submitted(&mut long).await;
    long.cancel().await.expect("cancel");
    assert_eq!(long.status().await.expect("status"), JobStatus::Cancelled);
    endpoint.purge_queue().await.expect("purge_queue");
    println!("all passed");
}

/// Polls the job until it has its id.
async fn submitted(job: &mut ServerlessJob) {
    let polling = async {
        while job.job_id().is_none() {
            let wait = std::time::Duration::from_millis(50);
            let early = tokio::time::timeout(wait, &mut *job).await;
            assert!(early.is_err(), "the job ended before its id was known");
        }
    };
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, polling)
        .await
        .expect("submitted");
}
