//! Names of the environment variables that configure a worker.

/// Job-take URL template; `$ID` stands for the worker id. If absent, the worker runs locally.
pub const GET_JOB: &str = "RUNPOD_WEBHOOK_GET_JOB";
/// Job-done URL template; `$RUNPOD_POD_ID` stands for the worker id, `$ID` for the job id.
pub const POST_OUTPUT: &str = "RUNPOD_WEBHOOK_POST_OUTPUT";
/// Job-stream URL template; placeholders as in [`POST_OUTPUT`].
pub const POST_STREAM: &str = "RUNPOD_WEBHOOK_POST_STREAM";
/// Heartbeat URL template; `$RUNPOD_POD_ID` stands for the worker id.
pub const PING: &str = "RUNPOD_WEBHOOK_PING";
/// Milliseconds between two heartbeats.
pub const PING_INTERVAL: &str = "RUNPOD_PING_INTERVAL";
/// The worker's key, sent as `Authorization` without a scheme.
pub const API_KEY: &str = "RUNPOD_AI_API_KEY";
/// The worker's id.
pub const POD_ID: &str = "RUNPOD_POD_ID";
/// The endpoint's id.
pub const ENDPOINT_ID: &str = "RUNPOD_ENDPOINT_ID";
/// The worker's host name, for error reports.
pub const POD_HOSTNAME: &str = "RUNPOD_POD_HOSTNAME";
/// Log level, by name or index.
pub const LOG_LEVEL: &str = "RUNPOD_LOG_LEVEL";
/// Log level, if [`LOG_LEVEL`] is absent.
pub const DEBUG_LEVEL: &str = "RUNPOD_DEBUG_LEVEL";
/// Port of the realtime server. If set, the worker serves requests instead of polling.
pub const REALTIME_PORT: &str = "RUNPOD_REALTIME_PORT";
/// Maximum jobs in flight of the realtime server.
pub const REALTIME_CONCURRENCY: &str = "RUNPOD_REALTIME_CONCURRENCY";
/// The value that is appended to the User-Agent, as `Integration/<value>`.
pub const UA_INTEGRATION: &str = "RUNPOD_UA_INTEGRATION";
/// Skips the checks of memory and disk at start-up if `true`.
pub const SKIP_AUTO_SYSTEM_CHECKS: &str = "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS";
/// Skips the check of the GPUs at start-up if `true`.
pub const SKIP_GPU_CHECK: &str = "RUNPOD_SKIP_GPU_CHECK";
/// Minimum available memory at start-up, in GiB.
pub const MIN_MEMORY_GB: &str = "RUNPOD_MIN_MEMORY_GB";
/// Minimum free disk space at start-up, in percent.
pub const MIN_DISK_PERCENT: &str = "RUNPOD_MIN_DISK_PERCENT";
/// Number of GPUs assigned to the worker.
pub const GPU_COUNT: &str = "RUNPOD_GPU_COUNT";
/// Maximum size of one download, in bytes.
pub const MAX_DOWNLOAD_BYTES: &str = "RUNPOD_MAX_DOWNLOAD_BYTES";
/// Allows downloads from addresses that are not public if `1`, `true` or `yes`.
pub const ALLOW_PRIVATE_DOWNLOAD_URLS: &str = "RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS";
/// URL of the S3-compatible service for uploads, with or without the bucket.
pub const BUCKET_ENDPOINT_URL: &str = "BUCKET_ENDPOINT_URL";
/// Id of the access key for uploads.
pub const BUCKET_ACCESS_KEY_ID: &str = "BUCKET_ACCESS_KEY_ID";
/// Secret of the access key for uploads.
pub const BUCKET_SECRET_ACCESS_KEY: &str = "BUCKET_SECRET_ACCESS_KEY";
/// The name of the bucket, if the URL does not contain it.
pub const BUCKET_NAME: &str = "BUCKET_NAME";
/// The region of the bucket, if the host name does not contain it.
pub const AWS_REGION: &str = "AWS_REGION";
/// The region, if [`AWS_REGION`] is absent.
pub const AWS_DEFAULT_REGION: &str = "AWS_DEFAULT_REGION";
