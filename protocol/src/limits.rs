//! The platform's documented limits and defaults.

use std::num::NonZeroU32;
use std::time::Duration;

/// Maximum size of a `/run` request, and of the result of such a job, in bytes.
pub const RUN_PAYLOAD: usize = 10 * 1024 * 1024;
/// Maximum size of a `/runsync` request, and of the result of such a job, in bytes.
pub const RUNSYNC_PAYLOAD: usize = 20 * 1024 * 1024;
/// Maximum size of a stream chunk, in bytes.
pub const CHUNK: usize = 1024 * 1024;

/// Maximum length of a job's id, in bytes. URLs and headers contain it.
pub const JOB_ID: usize = 1024;

/// Maximum `/run` calls of an endpoint per second.
pub const RUN_RATE: NonZeroU32 = NonZeroU32::new(1000).unwrap();
/// Maximum `/runsync` calls of an endpoint per second.
pub const RUNSYNC_RATE: NonZeroU32 = NonZeroU32::new(2000).unwrap();

/// Default wait of `/runsync` and `/status-sync`.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(90);
/// Minimum wait that a request can set.
pub const MIN_WAIT: Duration = Duration::from_secs(1);
/// Maximum wait that a request can set.
pub const MAX_WAIT: Duration = Duration::from_mins(5);

/// Time that the result of a `/run` job is kept.
pub const RUN_RETENTION: Duration = Duration::from_mins(30);
/// Time that the result of a `/runsync` job is kept.
pub const RUNSYNC_RETENTION: Duration = Duration::from_mins(1);

/// Default of `policy.executionTimeout`.
pub const DEFAULT_EXECUTION_TIMEOUT: Duration = Duration::from_mins(10);
/// Minimum of `policy.executionTimeout`.
pub const MIN_EXECUTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Default of `policy.ttl`.
pub const DEFAULT_TTL: Duration = Duration::from_hours(24);
/// Minimum of `policy.ttl`.
pub const MIN_TTL: Duration = Duration::from_secs(10);
/// Maximum of `policy.executionTimeout` and `policy.ttl`.
pub const MAX_POLICY: Duration = Duration::from_hours(168);

/// Default interval of the heartbeat.
pub const DEFAULT_PING_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum time that the platform holds a job-take open.
pub const TAKE_POLL: Duration = Duration::from_secs(90);

/// Prefix of the ids of jobs submitted by `/runsync`, which have the larger payload limit.
pub const SYNC_ID_PREFIX: &str = "sync-";

/// Returns the maximum size of the result of a job, in bytes.
#[must_use]
pub fn result_payload(job_id: &str) -> usize {
    if job_id.starts_with(SYNC_ID_PREFIX) {
        RUNSYNC_PAYLOAD
    } else {
        RUN_PAYLOAD
    }
}
