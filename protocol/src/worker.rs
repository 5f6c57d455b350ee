//! Request and response bodies of the worker API.

mod job;
mod stop;
mod taken;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::JobStatus;
use crate::raw::present;

pub use job::Job;
pub use stop::StopSignals;
pub use taken::{IgnoredElements, InvalidJob, TakenJobs};

/// The header with the job id, on each result, progress update and chunk.
pub const REQUEST_ID_HEADER: &str = "X-Request-ID";
/// The header that identifies a chunk across retries, so that a platform can recognise a chunk that it has already
/// accepted. podwork's workers send it; the official worker does not.
pub const IDEMPOTENCY_KEY_HEADER: &str = "Idempotency-Key";
/// The content type of a worker's posts. Their body is JSON nevertheless, as in the official worker.
pub const POST_CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// A worker's post: a result, a progress update (`status` is `IN_PROGRESS`) or a stream chunk (`output` alone).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Post {
    /// `IN_PROGRESS` for a progress update, otherwise absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The result, the progress, or the chunk. `Some` for `null` as well.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub output: Option<Box<RawValue>>,
    /// The error of a failed job. podwork's workers send the JSON text of an [`ErrorReport`]; others send any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<RawValue>>,
    /// Asks the platform to replace this worker. Default: `false`.
    #[serde(
        rename = "stopPod",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub stop_pod: bool,
}

impl Post {
    /// Creates the post of a result or a chunk.
    #[must_use]
    pub fn from_output(output: Box<RawValue>) -> Self {
        Self {
            output: Some(output),
            ..Self::default()
        }
    }

    /// Creates the post of a progress update.
    #[must_use]
    pub fn from_progress(progress: Box<RawValue>) -> Self {
        Self {
            status: Some(JobStatus::InProgress.to_string()),
            ..Self::from_output(progress)
        }
    }

    /// Creates the post of a failed job.
    pub fn from_error(error: impl Into<Value>) -> Self {
        // A JSON value always serializes. If it ever does not, the job still fails.
        let error = to_raw_value(&error.into()).unwrap_or_else(|_| RawValue::TRUE.to_owned());
        Self {
            error: Some(error),
            ..Self::default()
        }
    }
}

/// The content of a failed job's `error`, which is sent as JSON text inside a string.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorReport {
    /// The kind of the error, a stable name.
    pub error_type: String,
    /// The error message.
    pub error_message: String,
    /// The location of the error, or its chain of causes.
    pub error_traceback: String,
    /// Host name of the worker.
    pub hostname: String,
    /// Id of the worker.
    pub worker_id: String,
    /// SDK version of the worker.
    pub runpod_version: String,
}

impl ErrorReport {
    /// Creates a report without details of the worker.
    pub fn new(error_type: impl Into<String>, error_message: impl Into<String>) -> Self {
        Self {
            error_type: error_type.into(),
            error_message: error_message.into(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_the_same_once_it_is_read() {
        let error = "[3.333333333323333e+38]";
        let post = format!(r#"{{"output":null,"error":{error}}}"#);
        let post: Post = serde_json::from_str(&post).unwrap();
        let written = serde_json::to_string(&post).unwrap();
        assert!(written.contains(error), "{written}");
    }

    #[test]
    fn a_null_output_is_an_output() {
        let null: Post = serde_json::from_str(r#"{"output":null}"#).unwrap();
        assert_eq!(null.output.as_ref().unwrap().get(), "null");
        assert_eq!(serde_json::to_string(&null).unwrap(), r#"{"output":null}"#);
        let none: Post = serde_json::from_str(r#"{"error":"e","stopPod":true}"#).unwrap();
        assert!(none.output.is_none() && none.stop_pod);
    }
}
