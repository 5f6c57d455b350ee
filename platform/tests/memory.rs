//! The memory use of jobs, and its return after they expire.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

use std::fs;
use std::time::{Duration, Instant};

use podwork_platform::{Platform, RunRequest};

/// The same allocator as in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const JOBS: u64 = 100_000;

/// Returns the memory in use, in bytes.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

fn request() -> RunRequest {
    serde_json::from_str(r#"{"input": {"prompt": "to be or not to be", "steps": 20}}"#).unwrap()
}

#[tokio::test]
async fn jobs_take_little_memory_and_give_it_back_once_they_expire() {
    let platform = Platform::builder().start().await.unwrap();
    platform.submit(request()).unwrap();
    let before = memory();
    let submitted: Vec<String> = (0..JOBS)
        .map(|_| platform.submit(request()).unwrap())
        .collect();
    let queued = memory() - before;
    // The list of ids belongs to the test: 60 bytes each.
    println!("a queued job takes {} bytes", queued / JOBS - 60);
    assert!(queued / JOBS < 2000, "{queued}");

    // Ended jobs are kept for their retention.
    for id in &submitted {
        platform.cancel(id).unwrap();
    }
    platform.advance(Duration::from_mins(29));
    tokio::task::yield_now().await;
    assert!(submitted.iter().all(|id| platform.status(id).is_some()));
    platform.advance(Duration::from_mins(2));
    while submitted.iter().any(|id| platform.status(id).is_some()) {
        tokio::task::yield_now().await;
    }
    drop(submitted);
    // The allocator returns memory only while it serves further allocations.
    let began = Instant::now();
    while memory() > before + queued / 4 {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "{} of {queued}",
            memory() - before
        );
        platform
            .cancel(&platform.submit(request()).unwrap())
            .unwrap();
        tokio::task::yield_now().await;
    }
}
