//! Bodies that a client and the platform exchange.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::JobStatus;
use crate::raw::{object, present, whole};

/// Body of `/run` and `/runsync`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunRequest {
    /// The handler's input.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    pub input: Box<RawValue>,
    /// Called with the job's [`StatusResponse`] once the job has ended.
    #[cfg_attr(
        feature = "openapi",
        schema(format = "uri", example = "https://example.com/done")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Limits of this job's own.
    #[serde(
        default,
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub policy: Option<Policy>,
    /// Storage credentials, handed on to the worker.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    #[serde(rename = "s3Config", default, skip_serializing_if = "Option::is_none")]
    pub s3_config: Option<Map<String, Value>>,
}

/// Limits that a request sets for its job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Longest run, ms.
    #[cfg_attr(feature = "openapi", schema(minimum = 5000, maximum = 604_800_000))]
    #[serde(
        default,
        deserialize_with = "whole",
        skip_serializing_if = "Option::is_none"
    )]
    pub execution_timeout: Option<u64>,
    /// Longest life from submission, ms.
    #[cfg_attr(feature = "openapi", schema(minimum = 10_000, maximum = 604_800_000))]
    #[serde(
        default,
        deserialize_with = "whole",
        skip_serializing_if = "Option::is_none"
    )]
    pub ttl: Option<u64>,
    /// Does not trigger scaling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_priority: Option<bool>,
}

/// A job's id and where it stands: the answer of `/run`, `/cancel` and `/retry`, and of `/runsync` once its wait is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobState {
    /// The job's id.
    pub id: String,
    /// Where it stands.
    pub status: JobStatus,
}

/// Answer of `/status` and `/status-sync`, and of `/runsync` for a job that has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct StatusResponse {
    /// The job's id.
    pub id: String,
    /// Where it stands.
    pub status: JobStatus,
    /// Time in the queue, ms; once it has been taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_time: Option<u64>,
    /// Time at a worker, ms; once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_time: Option<u64>,
    /// The worker that has or had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// While it runs, the last progress update; then the result. `Some` also for `null`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub output: Option<Box<RawValue>>,
    /// Why it failed.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

/// Answer of `/stream`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct StreamResponse {
    /// The job's id.
    pub id: String,
    /// Final only together with, or after, the last chunks.
    pub status: JobStatus,
    /// Time in the queue, ms; once it has been taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_time: Option<u64>,
    /// Time at a worker, ms; once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_time: Option<u64>,
    /// The chunks since the last call.
    pub stream: Vec<StreamChunk>,
    /// Why it failed.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

/// One chunk of a stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StreamChunk {
    /// What the handler yielded.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    pub output: Box<RawValue>,
}

/// Answer of `/purge-queue`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PurgeResponse {
    /// Queued jobs removed.
    pub removed: u64,
    /// Always `completed`.
    pub status: String,
}

/// Answer of `/health`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Health {
    /// Jobs of the endpoint.
    pub jobs: JobCounts,
    /// Workers of the endpoint.
    pub workers: WorkerCounts,
}

/// Jobs of an endpoint, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct JobCounts {
    /// Ended with an output, since the start.
    pub completed: u64,
    /// Ended with an error, since the start.
    pub failed: u64,
    /// At a worker now.
    pub in_progress: u64,
    /// Waiting now.
    pub in_queue: u64,
    /// Put back into the queue, since the start.
    pub retried: u64,
}

/// Workers of an endpoint, by what they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkerCounts {
    /// Connected, without a job.
    pub idle: u64,
    /// With at least one job.
    pub running: u64,
    /// Starting up.
    pub initializing: u64,
    /// Able to take a job: idle or running.
    pub ready: u64,
    /// Held back by the platform.
    pub throttled: u64,
    /// Reported themselves unhealthy.
    pub unhealthy: u64,
}

/// Body of every refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// What was wrong.
    pub error: String,
}
