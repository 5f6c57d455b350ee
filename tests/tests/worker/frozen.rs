//! A worker that is stopped for a while, as by SIGSTOP or on a host that freezes containers.

use podwork_tests::{Answer, Binary, Recorded, Scripted, job, shared_library, within_a_minute};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Sets the clocks ahead by more than the timeout of a poll once the file `LATER` exists, so that the test need not wait
/// for that time.
const CLOCKS: &str = r#"
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now), before = errno;
    if ((clock == CLOCK_MONOTONIC || clock == CLOCK_REALTIME) && access(getenv("LATER"), F_OK) == 0)
        now->tv_sec += 300;
    errno = before;
    return result;
}
"#;

/// Returns whether the process is stopped.
fn is_stopped(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    status.contains("State:\tT")
}

/// Returns the largest number of received bytes that a client of this port has not read.
fn unread_bytes(port: u16) -> usize {
    let server = format!("0100007F:{port:04X}");
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let unread = sockets.lines().filter_map(|socket| {
        let mut columns = socket.split_whitespace().skip(2);
        let is_client = columns.next()? == server;
        let (_, unread) = columns.nth(1)?.split_once(':')?;
        let unread = usize::from_str_radix(unread, 16).ok()?;
        is_client.then_some(unread)
    });
    unread.max().unwrap_or(0)
}

async fn until(is_true: impl Fn() -> bool) {
    within_a_minute(async {
        while !is_true() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_job_that_arrives_while_the_worker_is_stopped_runs_although_the_poll_has_timed_out() {
    // Larger than other responses.
    let text = "x".repeat(4096);
    let input = json!({"do": "echo", "value": text});
    let (arrives, has_arrived) = watch::channel(false);
    let platform =
        Scripted::start(
            move |request: &Recorded, before| match (request.call(), before) {
                ("job-take-batch", 0) => {
                    let jobs = Answer::Json(200, json!([job("j", input.clone())]));
                    Answer::When(has_arrived.clone(), Box::new(jobs))
                }
                ("job-take-batch" | "job-take" | "job-stop", _) => Answer::Hold,
                _ => Answer::Status(200),
            },
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let library = shared_library(folder.path(), "clocks.so", CLOCKS);
    let later = folder.path().join("later");
    let worker = Binary::new(env!("CARGO_BIN_EXE_podwork-test-worker"), &[]).env([
        ("LD_PRELOAD", library.display().to_string()),
        ("LATER", later.display().to_string()),
    ]);
    let worker = worker.env(platform.env("w")).start();
    platform.until_count("job-take-batch", 1).await;

    worker.signal("-STOP").await;
    until(|| is_stopped(worker.id())).await;
    arrives.send(true).unwrap();
    until(|| unread_bytes(platform.port()) > 4096).await;
    std::fs::write(&later, "").unwrap();
    worker.signal("-CONT").await;

    let posts = platform.until("job-done", |posts| posts.len() == 1).await;
    assert_eq!(posts[0].json()["output"], Value::from(text));
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
}
