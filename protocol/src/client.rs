//! Request and response bodies of the client API.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::JobStatus;
use crate::raw::{object, present, whole};

/// The body of `/run` and `/runsync`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct RunRequest {
    /// The handler's input.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    pub input: Box<RawValue>,
    /// URL that receives the job's [`StatusResponse`] when the job has ended.
    #[cfg_attr(
        feature = "openapi",
        schema(format = "uri", example = "https://example.com/done")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// Limits for this job.
    #[serde(
        default,
        deserialize_with = "object",
        skip_serializing_if = "Option::is_none"
    )]
    pub policy: Option<Policy>,
    /// Storage credentials, passed to the worker.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    #[serde(rename = "s3Config", default, skip_serializing_if = "Option::is_none")]
    pub s3_config: Option<Map<String, Value>>,
}

impl RunRequest {
    /// Creates a request with an input and without options.
    #[must_use]
    pub fn new(input: Box<RawValue>) -> Self {
        Self {
            input,
            webhook: None,
            policy: None,
            s3_config: None,
        }
    }
}

/// The limits that a request sets for its job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Policy {
    /// Maximum run time, in milliseconds. Default: 10 minutes.
    #[cfg_attr(feature = "openapi", schema(minimum = 5000, maximum = 604_800_000))]
    #[serde(
        default,
        deserialize_with = "whole",
        skip_serializing_if = "Option::is_none"
    )]
    pub execution_timeout: Option<u64>,
    /// Maximum time from submission to expiry, in milliseconds. Default: 24 hours.
    #[cfg_attr(feature = "openapi", schema(minimum = 10_000, maximum = 604_800_000))]
    #[serde(
        default,
        deserialize_with = "whole",
        skip_serializing_if = "Option::is_none"
    )]
    pub ttl: Option<u64>,
    /// Keeps the job from starting further workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_priority: Option<bool>,
}

/// The id and status of a job: the response of `/run`, `/cancel` and `/retry`, and of `/runsync` after its wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct JobState {
    /// The job's id.
    pub id: String,
    /// The job's status.
    pub status: JobStatus,
}

impl JobState {
    /// Creates the state of a job.
    pub fn new(id: impl Into<String>, status: JobStatus) -> Self {
        Self {
            id: id.into(),
            status,
        }
    }
}

/// The response of `/status` and `/status-sync`, and of `/runsync` for a job that has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StatusResponse {
    /// The job's id.
    pub id: String,
    /// The job's status.
    pub status: JobStatus,
    /// Time in the queue, in milliseconds. Absent until a worker has taken the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_time: Option<u64>,
    /// Time at a worker, in milliseconds. Absent until the job has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_time: Option<u64>,
    /// The id of the worker that runs or ran the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// The latest progress update while the job runs, then its result. `Some` for `null` as well.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub output: Option<Box<RawValue>>,
    /// The error of a failed job.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

impl StatusResponse {
    /// Creates a response without times, worker, output and error.
    pub fn new(id: impl Into<String>, status: JobStatus) -> Self {
        Self {
            id: id.into(),
            status,
            delay_time: None,
            execution_time: None,
            worker_id: None,
            output: None,
            error: None,
        }
    }
}

/// The response of `/stream`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StreamResponse {
    /// The job's id.
    pub id: String,
    /// The job's status. Final only with or after the last chunks.
    pub status: JobStatus,
    /// Time in the queue, in milliseconds. Absent until a worker has taken the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_time: Option<u64>,
    /// Time at a worker, in milliseconds. Absent until the job has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_time: Option<u64>,
    /// The chunks since the previous call.
    pub stream: Vec<StreamChunk>,
    /// The error of a failed job.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

impl StreamResponse {
    /// Creates a response without times, chunks and error.
    pub fn new(id: impl Into<String>, status: JobStatus) -> Self {
        Self {
            id: id.into(),
            status,
            delay_time: None,
            execution_time: None,
            stream: Vec::new(),
            error: None,
        }
    }
}

/// One chunk of a stream.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct StreamChunk {
    /// The value that the handler yielded.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    pub output: Box<RawValue>,
}

impl StreamChunk {
    /// Creates a chunk.
    #[must_use]
    pub fn new(output: Box<RawValue>) -> Self {
        Self { output }
    }
}

/// The response of `/purge-queue`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct PurgeResponse {
    /// Number of queued jobs that were removed.
    pub removed: u64,
    /// Always `completed`.
    pub status: String,
}

impl PurgeResponse {
    /// Creates the response for a number of removed jobs.
    pub fn new(removed: u64) -> Self {
        Self {
            removed,
            status: "completed".to_owned(),
        }
    }
}

/// The response of `/health`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct Health {
    /// Jobs of the endpoint.
    pub jobs: JobCounts,
    /// Workers of the endpoint.
    pub workers: WorkerCounts,
}

impl Health {
    /// Creates a response from its counts.
    #[must_use]
    pub fn new(jobs: JobCounts, workers: WorkerCounts) -> Self {
        Self { jobs, workers }
    }
}

/// The jobs of an endpoint, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct JobCounts {
    /// Jobs completed since the platform started.
    pub completed: u64,
    /// Jobs failed since the platform started.
    pub failed: u64,
    /// Jobs in flight now.
    pub in_progress: u64,
    /// Jobs in the queue now.
    pub in_queue: u64,
    /// Jobs requeued since the platform started.
    pub retried: u64,
}

/// The workers of an endpoint, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct WorkerCounts {
    /// Connected workers without a job.
    pub idle: u64,
    /// Workers with at least one job.
    pub running: u64,
    /// Workers that are starting.
    pub initializing: u64,
    /// Workers that can take a job: idle or running.
    pub ready: u64,
    /// Workers that the platform throttles.
    pub throttled: u64,
    /// Workers that reported themselves unhealthy.
    pub unhealthy: u64,
}

/// The body of each error response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct ErrorBody {
    /// The error message.
    pub error: String,
}

impl ErrorBody {
    /// Creates the body for an error message.
    pub fn new(error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
        }
    }
}
