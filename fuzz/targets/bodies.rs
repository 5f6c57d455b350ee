//! Reads arbitrary bytes as each body of the protocol. A body that can be read must be unchanged after it is written
//! and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podwork_protocol::client::{Health, JobState, RunRequest, StatusResponse, StreamResponse};
use podwork_protocol::worker::{Job, Post, StopSignals, TakenJobs};
use serde_json::{from_slice, to_vec};

/// Reads, writes, reads and writes a body, and compares both writings.
macro_rules! round {
    ($bytes:expr, $($body:ty),*) => {$(
        if let Ok(body) = from_slice::<$body>($bytes) {
            let written = to_vec(&body).expect("a body that was read can be written");
            let again: $body = from_slice(&written).expect("a body that was written can be read");
            assert_eq!(written, to_vec(&again).expect("again"), "{}", stringify!($body));
        }
    )*};
}

fuzz_target!(|bytes: &[u8]| {
    round!(
        bytes,
        RunRequest,
        JobState,
        Health,
        StatusResponse,
        StreamResponse,
        Post,
        StopSignals
    );
    if let Ok(taken) = TakenJobs::parse(bytes) {
        for job in taken.jobs {
            let written = to_vec(&job).expect("a job can be written");
            let again = Job::parse(&written).expect("a written job can be read");
            assert_eq!((&job.id, job.input.get()), (&again.id, again.input.get()));
            assert_eq!(job.extra, again.extra);
        }
    }
});
