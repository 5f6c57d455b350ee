//! Names of the environment variables by which the platform tells a worker who it is and where to call.

/// Job-take URL template; `$ID` stands for the worker id. Absent: the worker runs locally.
pub const GET_JOB: &str = "RUNPOD_WEBHOOK_GET_JOB";
/// Job-done URL template; `$RUNPOD_POD_ID` stands for the worker id, `$ID` for the job id.
pub const POST_OUTPUT: &str = "RUNPOD_WEBHOOK_POST_OUTPUT";
/// Job-stream URL template; placeholders as in [`POST_OUTPUT`].
pub const POST_STREAM: &str = "RUNPOD_WEBHOOK_POST_STREAM";
/// Heartbeat URL template; `$RUNPOD_POD_ID` stands for the worker id.
pub const PING: &str = "RUNPOD_WEBHOOK_PING";
/// Milliseconds between two heartbeats.
pub const PING_INTERVAL: &str = "RUNPOD_PING_INTERVAL";
/// The worker's key, sent raw as `Authorization`.
pub const API_KEY: &str = "RUNPOD_AI_API_KEY";
/// The worker's id.
pub const POD_ID: &str = "RUNPOD_POD_ID";
/// The endpoint's id.
pub const ENDPOINT_ID: &str = "RUNPOD_ENDPOINT_ID";
/// The worker's host name, for error reports.
pub const POD_HOSTNAME: &str = "RUNPOD_POD_HOSTNAME";
/// Log level, by name or index.
pub const LOG_LEVEL: &str = "RUNPOD_LOG_LEVEL";
/// Log level where [`LOG_LEVEL`] is absent.
pub const DEBUG_LEVEL: &str = "RUNPOD_DEBUG_LEVEL";
/// Port of the realtime server; when set, the worker serves instead of pulling.
pub const REALTIME_PORT: &str = "RUNPOD_REALTIME_PORT";
/// Jobs the realtime server runs at once.
pub const REALTIME_CONCURRENCY: &str = "RUNPOD_REALTIME_CONCURRENCY";
/// Appended to the User-Agent as `Integration/<value>`.
pub const UA_INTEGRATION: &str = "RUNPOD_UA_INTEGRATION";
/// `true`: the worker does not check memory and disk before it starts.
pub const SKIP_AUTO_SYSTEM_CHECKS: &str = "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS";
/// `true`: the worker does not check its GPUs before it starts.
pub const SKIP_GPU_CHECK: &str = "RUNPOD_SKIP_GPU_CHECK";
/// Memory that must be available for the worker to start, in GiB.
pub const MIN_MEMORY_GB: &str = "RUNPOD_MIN_MEMORY_GB";
/// Disk that must be free for the worker to start, in percent of the whole.
pub const MIN_DISK_PERCENT: &str = "RUNPOD_MIN_DISK_PERCENT";
/// How many GPUs the worker's machine gives it.
pub const GPU_COUNT: &str = "RUNPOD_GPU_COUNT";
/// Most bytes that one download may bring.
pub const MAX_DOWNLOAD_BYTES: &str = "RUNPOD_MAX_DOWNLOAD_BYTES";
/// `1`, `true` or `yes`: downloads may come from addresses that are not public.
pub const ALLOW_PRIVATE_DOWNLOAD_URLS: &str = "RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS";
/// Where uploads go: the URL of an S3-compatible service, with the bucket in it or without.
pub const BUCKET_ENDPOINT_URL: &str = "BUCKET_ENDPOINT_URL";
/// The access key's id there.
pub const BUCKET_ACCESS_KEY_ID: &str = "BUCKET_ACCESS_KEY_ID";
/// The access key itself.
pub const BUCKET_SECRET_ACCESS_KEY: &str = "BUCKET_SECRET_ACCESS_KEY";
/// The bucket, where the URL does not name it.
pub const BUCKET_NAME: &str = "BUCKET_NAME";
/// The bucket's region, where the host's name does not tell it.
pub const AWS_REGION: &str = "AWS_REGION";
/// The region where [`AWS_REGION`] is absent.
pub const AWS_DEFAULT_REGION: &str = "AWS_DEFAULT_REGION";
