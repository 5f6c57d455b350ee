//! Tests of a system that refuses to start threads.

use std::path::Path;

use crate::common::{podwork, said};

#[test]
fn a_refused_thread_is_an_error_of_one_line() {
    for threads in ["1", "4"] {
        for args in [&["doctor"][..], &["invoke", "--data", "1"], &["dev"]] {
            let mut command = podwork(Path::new("."), args);
            // No thread can have a stack of 1 PiB.
            command.env("RUST_MIN_STACK", (1_u64 << 50).to_string());
            command.env("TOKIO_WORKER_THREADS", threads);
            let output = command.output().unwrap();
            let said = said(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            let error = "error: cannot start an async runtime: cannot start a thread: Resource temporarily unavailable";
            assert!(said.starts_with(error), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}
