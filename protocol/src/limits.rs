//! The platform's documented limits and defaults.

use std::num::NonZeroU32;
use std::time::Duration;

/// Largest `/run` request, and largest result of such a job, in bytes.
pub const RUN_PAYLOAD: usize = 10 * 1024 * 1024;
/// Largest `/runsync` request, and largest result of such a job, in bytes.
pub const RUNSYNC_PAYLOAD: usize = 20 * 1024 * 1024;
/// Largest stream chunk, in bytes.
pub const CHUNK: usize = 1024 * 1024;

/// `/run` calls that an endpoint takes in a second.
pub const RUN_RATE: NonZeroU32 = NonZeroU32::new(1000).unwrap();
/// `/runsync` calls that an endpoint takes in a second.
pub const RUNSYNC_RATE: NonZeroU32 = NonZeroU32::new(2000).unwrap();

/// How long `/runsync` and `/status-sync` wait when the request does not say.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(90);
/// Shortest wait that can be asked for.
pub const MIN_WAIT: Duration = Duration::from_secs(1);
/// Longest wait that can be asked for.
pub const MAX_WAIT: Duration = Duration::from_mins(5);

/// How long a `/run` job's result is kept after its end.
pub const RUN_RETENTION: Duration = Duration::from_mins(30);
/// How long a `/runsync` job's result is kept after its end.
pub const RUNSYNC_RETENTION: Duration = Duration::from_mins(1);

/// Longest run of a job that does not set `policy.executionTimeout`.
pub const DEFAULT_EXECUTION_TIMEOUT: Duration = Duration::from_mins(10);
/// Smallest `policy.executionTimeout`.
pub const MIN_EXECUTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Life, from submission, of a job that does not set `policy.ttl`.
pub const DEFAULT_TTL: Duration = Duration::from_hours(24);
/// Smallest `policy.ttl`.
pub const MIN_TTL: Duration = Duration::from_secs(10);
/// Largest `policy.executionTimeout` and `policy.ttl`.
pub const MAX_POLICY: Duration = Duration::from_hours(168);

/// Heartbeat interval when the environment does not say.
pub const DEFAULT_PING_INTERVAL: Duration = Duration::from_secs(10);
/// Longest that the platform holds a job-take open.
pub const TAKE_POLL: Duration = Duration::from_secs(90);

/// Id prefix of jobs submitted by `/runsync`, to which the larger payload limit applies.
pub const SYNC_ID_PREFIX: &str = "sync-";

/// The largest result, in bytes, that the platform accepts for the job of this id.
#[must_use]
pub fn result_payload(job_id: &str) -> usize {
    if job_id.starts_with(SYNC_ID_PREFIX) {
        RUNSYNC_PAYLOAD
    } else {
        RUN_PAYLOAD
    }
}
