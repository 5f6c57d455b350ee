//! Any bytes, read as each body of the protocol: what is read says the same once it is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use podwork_protocol::client::{RunRequest, StatusResponse, StreamResponse};
use podwork_protocol::worker::{Post, StopSignals, TakenJobs};
use serde_json::{from_slice, to_vec};

/// Reads, writes, reads and writes again.
macro_rules! round {
    ($bytes:expr, $($body:ty),*) => {$(
        if let Ok(body) = from_slice::<$body>($bytes) {
            let written = to_vec(&body).expect("what was read can be written");
            let again: $body = from_slice(&written).expect("what was written can be read");
            assert_eq!(written, to_vec(&again).expect("again"), "{}", stringify!($body));
        }
    )*};
}

fuzz_target!(|bytes: &[u8]| {
    round!(
        bytes,
        RunRequest,
        StatusResponse,
        StreamResponse,
        Post,
        StopSignals
    );
    if let Ok(taken) = TakenJobs::parse(bytes) {
        for job in taken.0.into_iter().flatten() {
            let written = to_vec(&job).expect("a job can be written");
            let again = TakenJobs::parse(&written).expect("and read").0;
            let again = again[0].as_ref().expect("as a job");
            assert_eq!((&job.id, job.input.get()), (&again.id, again.input.get()));
            assert_eq!(job.extra, again.extra);
        }
    }
});
