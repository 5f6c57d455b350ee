//! Request and response bodies of the client API.
//!
//! Responses are read tolerantly: members that a platform adds, leaves out or sends with another type cause no error,
//! unless a client cannot do without them. Requests are read strictly.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::JobStatus;
use crate::raw::{
    chunks, id, lenient, lenient_status, millis, number, object, present, raw_object, shown,
    status, whole,
};

/// The body of `/run` and `/runsync`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct RunRequest {
    /// The handler's input.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    pub input: Box<RawValue>,
    /// URL that receives the job's [`StatusResponse`] when the job has ended, with `input` and `webhook` as in this
    /// request.
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
    /// Storage credentials, an object that is passed to the worker unchanged.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    #[serde(
        rename = "s3Config",
        default,
        deserialize_with = "raw_object",
        skip_serializing_if = "Option::is_none"
    )]
    pub s3_config: Option<Box<RawValue>>,
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
    /// The job's id. A number is read as its digits.
    #[serde(deserialize_with = "id")]
    pub id: String,
    /// The job's status. A word that this version does not know, or no word, is read as [`JobStatus::InProgress`].
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default = "in_progress", deserialize_with = "lenient_status")]
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

/// The status if a response lacks it: the job may not have ended.
fn in_progress() -> JobStatus {
    JobStatus::InProgress
}

/// The response of `/status` and `/status-sync`, and of `/runsync` for a job that has ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StatusResponse {
    /// The job's id. Empty if a response was read that leaves it out.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "lenient")]
    pub id: String,
    /// The job's status. A word that this version does not know is read as [`JobStatus::InProgress`].
    #[serde(deserialize_with = "status")]
    pub status: JobStatus,
    /// Time in the queue, in milliseconds, since the job was last queued. Absent until a worker has taken the job.
    #[serde(
        default,
        deserialize_with = "millis",
        skip_serializing_if = "Option::is_none"
    )]
    pub delay_time: Option<u64>,
    /// Time at the last worker, in milliseconds. Absent until the job has ended.
    #[serde(
        default,
        deserialize_with = "millis",
        skip_serializing_if = "Option::is_none"
    )]
    pub execution_time: Option<u64>,
    /// The number of times that the job returned to the queue: its worker was lost, or a client called `/retry`.
    /// Absent for 0.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub retries: Option<u32>,
    /// The id of the worker that runs or ran the job.
    #[serde(
        default,
        deserialize_with = "lenient",
        skip_serializing_if = "Option::is_none"
    )]
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
    #[serde(
        default,
        deserialize_with = "shown",
        skip_serializing_if = "Option::is_none"
    )]
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
            retries: None,
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
    /// The job's id. Empty if a response was read that leaves it out.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "lenient")]
    pub id: String,
    /// The job's status. Final only with or after the last chunks. A word that this version does not know, or no word, is
    /// read as [`JobStatus::InProgress`].
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default = "in_progress", deserialize_with = "lenient_status")]
    pub status: JobStatus,
    /// Time in the queue, in milliseconds. Absent until a worker has taken the job.
    #[serde(
        default,
        deserialize_with = "millis",
        skip_serializing_if = "Option::is_none"
    )]
    pub delay_time: Option<u64>,
    /// Time at a worker, in milliseconds. Absent until the job has ended.
    #[serde(
        default,
        deserialize_with = "millis",
        skip_serializing_if = "Option::is_none"
    )]
    pub execution_time: Option<u64>,
    /// The chunks since the previous call. Empty if the response that was read has no list.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "chunks")]
    pub stream: Vec<StreamChunk>,
    /// The error of a failed job.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    #[serde(
        default,
        deserialize_with = "shown",
        skip_serializing_if = "Option::is_none"
    )]
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

impl From<Box<RawValue>> for StreamChunk {
    fn from(output: Box<RawValue>) -> Self {
        Self::new(output)
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

/// The response of `/health`. Counts that a platform does not report are read as 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct Health {
    /// Jobs of the endpoint.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "lenient")]
    pub jobs: JobCounts,
    /// Workers of the endpoint.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "lenient")]
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
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "number")]
    pub completed: u64,
    /// Jobs failed since the platform started.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "number")]
    pub failed: u64,
    /// Jobs in flight now.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "number")]
    pub in_progress: u64,
    /// Jobs in the queue now.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "number")]
    pub in_queue: u64,
    /// Jobs requeued since the platform started.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "number")]
    pub retried: u64,
}

/// The workers of an endpoint, by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[non_exhaustive]
pub struct WorkerCounts {
    /// Connected workers without a job.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "number")]
    pub idle: u64,
    /// Workers with at least one job.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "number")]
    pub running: u64,
    /// Workers that are starting.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "number")]
    pub initializing: u64,
    /// Workers that can take a job: idle or running.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "number")]
    pub ready: u64,
    /// Workers that the platform throttles.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "number")]
    pub throttled: u64,
    /// Workers that reported themselves unhealthy.
    #[cfg_attr(feature = "openapi", schema(required = true))]
    #[serde(default, deserialize_with = "number")]
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

#[cfg(test)]
mod tests {
    use serde_json::{from_str, json};

    use super::*;

    #[test]
    fn a_status_needs_no_member_but_its_status() {
        let odd = r#"{"status": "RUNNING", "delayTime": 12.5, "executionTime": "soon", "workerId": 7, "retries": 1}"#;
        let read: StatusResponse = from_str(odd).unwrap();
        assert_eq!(read.status, JobStatus::InProgress);
        assert!(!read.status.is_final());
        assert_eq!(
            (read.id.as_str(), read.delay_time, read.execution_time),
            ("", Some(13), None)
        );
        assert_eq!(read.worker_id, None);
        let read: StatusResponse =
            from_str(r#"{"id": null, "status": "COMPLETED", "delayTime": -3}"#).unwrap();
        assert_eq!(
            (read.status, read.delay_time),
            (JobStatus::Completed, Some(0))
        );
        for missing in [
            "{}",
            r#"{"id": "a"}"#,
            r#"{"status": null}"#,
            r#"{"status": 7}"#,
        ] {
            assert!(from_str::<StatusResponse>(missing).is_err(), "{missing}");
        }
    }

    #[test]
    fn values_that_cannot_be_represented_harm_no_other_member() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for odd in [r#""\udcff""#, "1e400", &deep] {
            let text = format!(
                r#"{{"id": {odd}, "status": "FAILED", "workerId": {odd}, "delayTime": {odd}, "executionTime": {odd},
                    "retries": {odd}, "error": {odd}, "added": {odd}}}"#
            );
            let read: StatusResponse = from_str(&text).unwrap();
            assert_eq!(read.status, JobStatus::Failed);
            assert_eq!((read.delay_time, read.worker_id), (None, None));
            assert!(read.error.unwrap().is_string(), "{odd}");
            let health = format!(
                r#"{{"jobs": {{"completed": {odd}, "failed": 2}}, "workers": {odd}, "added": {odd}}}"#
            );
            let health: Health = from_str(&health).unwrap();
            assert_eq!((health.jobs.completed, health.jobs.failed), (0, 2));
        }
        let error = |text: &str| {
            let text = format!(r#"{{"status": "FAILED", "error": {text}}}"#);
            from_str::<StatusResponse>(&text).unwrap().error
        };
        let shown = error(r#""cannot open\n\udcff.png""#).unwrap();
        let shown = shown.as_str().unwrap();
        assert!(shown.starts_with("cannot open\n\u{fffd}"), "{shown}");
        assert_eq!(shown.replace('\u{fffd}', ""), "cannot open\n.png");
        assert_eq!(
            error(r#"{"size": 1e400}"#),
            Some(json!(r#"{"size": 1e400}"#))
        );
        assert_eq!(error(r#"{"size": 1}"#), Some(json!({ "size": 1 })));
        assert_eq!(error("null"), None);
    }

    #[test]
    fn a_submitted_job_needs_no_member_but_its_id() {
        for (text, id) in [
            (r#"{"id": "j1"}"#, "j1"),
            (r#"{"id": "j1", "status": null}"#, "j1"),
            (r#"{"id": 1234, "status": 7}"#, "1234"),
            (
                r#"{"id": 5400121572116418999123, "status": "WARMING"}"#,
                "5400121572116418999123",
            ),
        ] {
            let read: JobState = from_str(text).unwrap();
            assert_eq!((read.id.as_str(), read.status.is_final()), (id, false));
        }
        for bad in ["{}", r#"{"id": null}"#, r#"{"id": {}}"#] {
            assert!(from_str::<JobState>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stream_without_a_status_has_not_ended() {
        for status in ["", r#", "status": null"#, r#", "status": 7"#] {
            let text = format!(r#"{{"stream": [{{"output": 1}}]{status}}}"#);
            let read: StreamResponse = from_str(&text).unwrap();
            assert_eq!((read.status.is_final(), read.stream.len()), (false, 1));
        }
    }

    #[test]
    fn chunks_are_read_unchanged_and_may_be_missing() {
        let chunks = |stream: &str| {
            let text = format!(r#"{{"status": "IN_PROGRESS"{stream}}}"#);
            let read: StreamResponse = from_str(&text).unwrap();
            let chunks = read.stream.into_iter();
            chunks
                .map(|chunk| chunk.output.get().to_owned())
                .collect::<Vec<_>>()
        };
        for none in [
            "",
            r#", "stream": null"#,
            r#", "stream": []"#,
            r#", "stream": {"a": 1}"#,
        ] {
            assert!(chunks(none).is_empty(), "{none}");
        }
        let seed = "5400121572116418999123";
        assert_eq!(
            chunks(&format!(
                r#", "stream": [{{"output": {seed}, "metrics": {{}}}}, {{"output": null}}, "bare"]"#
            )),
            [seed, "null", "\"bare\""]
        );
    }

    #[test]
    fn counts_that_are_missing_are_0() {
        // The example of the platform's documentation.
        let documented = json!({
            "jobs": { "completed": 1, "failed": 5, "inProgress": 0, "inQueue": 2, "retried": 0 },
            "workers": { "idle": 0, "running": 3 },
        });
        let health: Health = from_str(&documented.to_string()).unwrap();
        assert_eq!((health.jobs.in_queue, health.workers.running), (2, 3));
        assert_eq!(
            (health.workers.initializing, health.workers.unhealthy),
            (0, 0)
        );
        for text in [
            "{}",
            r#"{"jobs": null, "workers": []}"#,
            r#"{"jobs": {"completed": "many"}}"#,
        ] {
            assert_eq!(
                from_str::<Health>(text).unwrap(),
                Health::default(),
                "{text}"
            );
        }
    }
}
