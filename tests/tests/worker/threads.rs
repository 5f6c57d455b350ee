//! A machine on which no thread can be started for a while, as at a container's limit on processes.

use std::path::PathBuf;

use podwork_tests::{Answer, Binary, Recorded, Scripted, job, shared_library};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

/// Refuses to start more than `MOST_THREADS` threads until the file `MORE_THREADS` exists.
const SHORTAGE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static atomic_int started;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    if (atomic_load(&started) >= atoi(getenv("MOST_THREADS")) && access(getenv("MORE_THREADS"), F_OK) != 0)
        return EAGAIN;
    atomic_fetch_add(&started, 1);
    return create(thread, attributes, run, argument);
}
"#;

/// The threads of a worker that polls: one for handlers, one for its own tasks, and the heartbeat.
const OWN_THREADS: usize = 3;

struct Shortage {
    folder: TempDir,
    library: PathBuf,
}

impl Shortage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = shared_library(folder.path(), "shortage.so", SHORTAGE);
        Self { folder, library }
    }

    fn ends_with(&self) -> PathBuf {
        self.folder.path().join("more")
    }

    fn end(&self) {
        std::fs::write(self.ends_with(), "").unwrap();
    }

    /// Returns a worker that can start only `most` threads.
    fn worker(&self, args: &[&str], most: usize) -> Binary {
        Binary::new(env!("CARGO_BIN_EXE_podwork-test-worker"), args).env([
            ("LD_PRELOAD", self.library.display().to_string()),
            ("MOST_THREADS", most.to_string()),
            ("MORE_THREADS", self.ends_with().display().to_string()),
            ("TOKIO_WORKER_THREADS", "1".to_owned()),
            ("RUNPOD_SKIP_GPU_CHECK", "true".to_owned()),
        ])
    }
}

fn report(post: &Recorded) -> Value {
    serde_json::from_str(post.json()["error"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_job_without_a_thread_fails_and_never_runs_and_the_next_one_runs() {
    let shortage = Shortage::new();
    let lines = shortage.folder.path().join("lines");
    let inputs = ["first", "second"].map(|line| json!({"path": lines, "line": line}));
    let (over, is_over) = watch::channel(false);
    let platform = Scripted::start(move |request: &Recorded, before| {
        let answer = |n: usize| Answer::Json(200, job(["first", "second"][n], &inputs[n]));
        match (request.call(), before) {
            ("job-take", 0) => answer(0),
            ("job-take", 1) => Answer::When(is_over.clone(), Box::new(answer(1))),
            ("job-take" | "job-stop", _) => Answer::Hold,
            _ => Answer::Status(200),
        }
    })
    .await;
    let worker = shortage.worker(&["append"], OWN_THREADS);
    let worker = worker.env(platform.env("w")).start();

    let posts = platform.until("job-done", |posts| posts.len() == 1).await;
    let failure = report(&posts[0]);
    assert_eq!(failure["error_type"], "no_thread");
    let message = failure["error_message"].as_str().unwrap();
    assert!(
        message.starts_with("cannot start a thread: Resource temporarily unavailable"),
        "{message}"
    );
    // The job is no longer in flight.
    let none = |ping: &Recorded| ping.param("job_id").is_none();
    platform
        .until("ping", |pings| pings.last().is_some_and(none))
        .await;

    shortage.end();
    over.send(true).unwrap();
    let posts = platform.until("job-done", |posts| posts.len() == 2).await;
    assert_eq!(posts[1].json(), json!({"output": 6}));
    // The handler of the failed job does not run late.
    assert_eq!(std::fs::read_to_string(&lines).unwrap(), "second\n");
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
}

#[tokio::test]
async fn polls_posts_and_heartbeats_survive_a_shortage_during_the_lookup_of_the_host() {
    let platform = Scripted::start(
        |request: &Recorded, before| match (request.call(), before) {
            ("job-take-batch", 0) => {
                Answer::Json(200, json!([job("j", json!({"do": "echo", "value": 1}))]))
            }
            ("job-take" | "job-take-batch" | "job-stop", _) => Answer::Hold,
            _ => Answer::Status(200),
        },
    )
    .await;
    let by_name = platform.env("w").into_iter();
    let by_name = by_name.map(|(name, value)| (name, value.replace("127.0.0.1", "localhost")));
    let shortage = Shortage::new();
    let worker = shortage.worker(&[], OWN_THREADS).env(by_name);
    let debug = [("RUNPOD_LOG_LEVEL", "DEBUG".to_owned())];
    let mut worker = worker.env(debug).start();

    let mut failed = [
        "Poll failed",
        "Heartbeat failed",
        "Poll of the stop channel",
    ]
    .to_vec();
    while !failed.is_empty() {
        let line = worker.line("cannot start a thread").await;
        failed.retain(|call| !line.contains(call));
    }
    shortage.end();
    let posts = platform.until("job-done", |posts| posts.len() == 1).await;
    assert_eq!(posts[0].json(), json!({"output": 1}));
    platform.until_count("ping", 2).await;
    platform.until_count("job-stop", 1).await;
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
}

#[tokio::test]
async fn chunks_and_results_that_cannot_be_posted_in_a_shortage_are_delivered_after_it() {
    let platform = Scripted::start(
        |request: &Recorded, before| match (request.call(), before) {
            ("job-take", 0) => Answer::Json(200, job("j", json!({"chunks": ["a", "b"]}))),
            ("job-take" | "job-stop", _) => Answer::Hold,
            _ => Answer::Status(200),
        },
    )
    .await;
    // Only posts look up a host.
    let env = platform
        .env("w")
        .into_iter()
        .map(|(name, value)| match name {
            "RUNPOD_WEBHOOK_POST_OUTPUT" | "RUNPOD_WEBHOOK_POST_STREAM" => {
                (name, value.replace("127.0.0.1", "localhost"))
            }
            _ => (name, value),
        });
    let shortage = Shortage::new();
    let mut worker = shortage.worker(&["stream"], OWN_THREADS).env(env).start();

    let line = worker.line("Post failed").await;
    assert!(line.contains("cannot start a thread"), "{line}");
    assert!(platform.of("job-stream").is_empty());
    shortage.end();
    let posts = platform.until("job-done", |posts| posts.len() == 1).await;
    assert_eq!(posts[0].json(), json!({"output": ["a", "b"]}));
    let chunks = platform.of("job-stream");
    let chunks: Vec<Value> = chunks.iter().map(Recorded::json).collect();
    assert_eq!(chunks, [json!({"output": "a"}), json!({"output": "b"})]);
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
}

#[tokio::test]
async fn a_worker_that_cannot_start_its_threads_says_so_in_one_line() {
    let shortage = Shortage::new();
    for (most, runtime) in [(0, 1), (1, 1), (2, 4)] {
        let worker = shortage.worker(&[], most);
        let worker = worker.env([("TOKIO_WORKER_THREADS", runtime.to_string())]);
        let complaint = worker.complaint().await;
        let refused = "error: failed to start an async runtime: cannot start a thread: Resource temporarily unavailable";
        assert!(complaint.starts_with(refused), "{complaint}");
    }
}
