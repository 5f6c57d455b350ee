//! The log of a worker: where its lines come from, and what happens if nobody reads them.

use podwork_platform::Platform;
use podwork_tests::{Answer, Binary, Recorded, Scripted, ended, job, submit};
use serde_json::{Value, json};
use tokio::sync::watch;

fn worker(platform: &Platform) -> Binary {
    let skip = [("RUNPOD_SKIP_GPU_CHECK", "true".to_owned())];
    let worker = Binary::new(env!("CARGO_BIN_EXE_podwork-test-worker"), &[]);
    worker.env(platform.worker_env("w")).env(skip)
}

async fn output(platform: &Platform, id: &str) -> Value {
    let job = ended(platform, id).await;
    serde_json::from_str(job.output.unwrap().get()).unwrap()
}

#[tokio::test]
async fn records_of_the_crate_log_appear_with_the_jobs_id() {
    let platform = Platform::builder().start().await.unwrap();
    let mut worker = worker(&platform).start();
    let id = submit(
        &platform,
        &json!({"do": "log", "records": ["loading \"w\"", "loaded"]}),
    );
    for message in ["loading \"w\"", "loaded"] {
        let line: Value = serde_json::from_str(&worker.line("load").await).unwrap();
        assert_eq!(
            line,
            json!({"requestId": id, "message": message, "level": "INFO"})
        );
    }
    let next: Value = serde_json::from_str(&worker.next_line().await.unwrap()).unwrap();
    assert_eq!(next["message"], "Finished.");
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
}

#[tokio::test]
async fn the_levels_apply_to_records_of_the_crate_log_and_to_their_targets() {
    for (rust_log, shown) in [
        ("warn,someones_crate::module=info", true),
        ("info,someones_crate=off", false),
    ] {
        let platform = Platform::builder().start().await.unwrap();
        let worker = worker(&platform).env([("RUST_LOG", rust_log.to_owned())]);
        let mut worker = worker.start();
        let id = submit(&platform, &json!({"do": "log", "records": ["loaded"]}));
        assert_eq!(output(&platform, &id).await, 1);
        worker.signal("-TERM").await;
        let mut lines = Vec::new();
        while let Some(line) = worker.next_line().await {
            lines.push(line);
        }
        let found = lines.iter().any(|line| line.contains("loaded"));
        assert_eq!(found, shown, "{rust_log}: {lines:#?}");
        assert!(
            lines.iter().all(|line| !line.contains("hidden")),
            "{lines:#?}"
        );
    }
}

#[tokio::test]
async fn a_handler_without_a_job_is_abandoned_with_a_single_line() {
    let (started, has_started) = watch::channel(false);
    let platform =
        Scripted::start(
            move |request: &Recorded, before| match (request.call(), before) {
                ("job-take", 0) => Answer::Json(200, job("j", json!({}))),
                ("job-stop", 0) => {
                    let stop = Answer::Json(200, json!({"jobsToStop": ["j"]}));
                    Answer::When(has_started.clone(), Box::new(stop))
                }
                ("job-take" | "job-stop", _) => Answer::Hold,
                _ => Answer::Status(200),
            },
        )
        .await;
    let program = env!("CARGO_BIN_EXE_podwork-test-worker");
    let skip = [("RUNPOD_SKIP_GPU_CHECK", "true".to_owned())];
    let worker = Binary::new(program, &["stuck"]).env(skip);
    let mut worker = worker.env(platform.env("w")).start();
    worker.line("Started.").await;
    started.send(true).unwrap();
    let has_job = |ping: &Recorded| ping.param("job_id").is_some();
    platform
        .until("ping", |pings| {
            pings.last().is_some_and(|ping| !has_job(ping))
        })
        .await;
    worker.signal("-TERM").await;
    worker.line("Shutting down").await;
    let mut lines = Vec::new();
    while let Some(line) = worker.next_line().await {
        lines.push(line);
    }
    let expected = "Handlers of cancelled jobs outlived the grace period; abandoning them.";
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains(expected), "{lines:#?}");
    assert_eq!(worker.code().await, Some(0));
}

#[tokio::test]
async fn a_standard_output_that_nobody_reads_blocks_no_job_and_no_shutdown() {
    let platform = Platform::builder().start().await.unwrap();
    let worker = worker(&platform).start();
    for _ in 0..3 {
        let id = submit(&platform, &json!({"do": "flood", "lines": 10_000}));
        assert_eq!(output(&platform, &id).await, 10_000);
    }
    worker.signal("-TERM").await;
    assert_eq!(worker.code_unread().await, Some(0));
}

#[tokio::test]
async fn a_standard_error_that_nobody_reads_blocks_no_panicking_job_and_no_shutdown() {
    let (_unread, full) = std::io::pipe().unwrap();
    // Fills the pipe until it blocks.
    let mut filling = std::process::Command::new("yes")
        .stdout(full.try_clone().unwrap())
        .spawn()
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    filling.kill().unwrap();
    filling.wait().unwrap();
    let platform = Platform::builder().start().await.unwrap();
    let worker = worker(&platform).stderr(full).start();
    for message in ["short".to_owned(), "long ".repeat(20_000)] {
        let id = submit(&platform, &json!({"do": "panic", "message": message}));
        let job = ended(&platform, &id).await;
        assert!(job.error.unwrap().to_string().contains("panicked at"));
    }
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
}

#[tokio::test]
async fn a_reader_that_comes_late_gets_the_first_lines_in_order_and_the_number_of_the_others() {
    let platform = Platform::builder().start().await.unwrap();
    let mut worker = worker(&platform).start();
    let id = submit(&platform, &json!({"do": "flood", "lines": 30_000}));
    assert_eq!(output(&platform, &id).await, 30_000);

    worker.line("Started.").await;
    let mut read = 0;
    let dropped = loop {
        let line: Value = serde_json::from_str(&worker.next_line().await.unwrap()).unwrap();
        let message = line["message"].as_str().unwrap();
        if let Some((_, lines)) = message.split_once("Dropped log lines: ") {
            break lines.rsplit_once('=').unwrap().1.parse::<u64>().unwrap();
        }
        assert_eq!(message.parse(), Ok(read), "{message}");
        read += 1;
    };
    // The line at the end of the job is among those that were dropped.
    assert_eq!(read + dropped, 30_001);
    // The log continues.
    let id = submit(&platform, &json!({"do": "echo", "value": 1}));
    worker.line(&id).await;
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
}
