//! Request and response bodies of the worker API.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::JobStatus;
use crate::raw::present;

/// The header with the job id, on each result, progress update and chunk.
pub const REQUEST_ID_HEADER: &str = "X-Request-ID";
/// The header that identifies a chunk across retries, so that a platform can recognise a chunk that it has already
/// accepted. podwork's workers send it; the official worker does not.
pub const IDEMPOTENCY_KEY_HEADER: &str = "Idempotency-Key";
/// The content type of a worker's posts. Their body is JSON nevertheless, as in the official worker.
pub const POST_CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// A job as the platform hands it to a worker.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Job {
    /// The job's id, unique on the platform. Starts with `sync-` if the job was submitted by `/runsync`.
    pub id: String,
    /// The handler's input, as the client wrote it.
    pub input: Box<RawValue>,
    /// All other members (`webhook`, `batchId`, `policy`, `s3Config`, …), except those that are `null`.
    pub extra: Map<String, Value>,
}

impl Job {
    /// Creates a job without extra members.
    pub fn new(id: impl Into<String>, input: Box<RawValue>) -> Self {
        Self {
            id: id.into(),
            input,
            extra: Map::new(),
        }
    }
}

// Not derived: `#[serde(flatten)]` buffers its input, and raw JSON cannot be buffered.
impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JobVisitor;

        impl<'de> Visitor<'de> for JobVisitor {
            type Value = Job;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a job: an object with `id` and `input`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Job, A::Error> {
                let (mut id, mut input, mut extra) = (None, None, Map::new());
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "id" => id = Some(map.next_value()?),
                        "input" => input = Some(map.next_value()?),
                        // `null` means the same as an absent member.
                        _ => match map.next_value()? {
                            Value::Null => {}
                            value => {
                                extra.insert(key, value);
                            }
                        },
                    }
                }
                Ok(Job {
                    id: id.ok_or_else(|| A::Error::missing_field("id"))?,
                    input: input.ok_or_else(|| A::Error::missing_field("input"))?,
                    extra,
                })
            }
        }

        deserializer.deserialize_map(JobVisitor)
    }
}

impl Serialize for Job {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2 + self.extra.len()))?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("input", &self.input)?;
        for (key, value) in &self.extra {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// The response to a take: zero or more jobs.
///
/// An element that is not a valid job is kept as an error message, and does not affect the others.
#[derive(Debug)]
#[non_exhaustive]
pub struct TakenJobs(pub Vec<Result<Job, String>>);

impl TakenJobs {
    /// Parses the body of a response: an object, an array of objects, or `null`.
    ///
    /// # Errors
    /// Returns an error if the body is not JSON, or has another type.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
        // Usually all elements are valid, and the body, which may be large, is parsed once.
        let jobs = match first {
            Some(b'[') => serde_json::from_slice(body),
            _ => serde_json::from_slice(body).map(|job| vec![job]),
        };
        if let Ok(jobs) = jobs {
            return Ok(Self(jobs.into_iter().map(Ok).collect()));
        }
        let raw: Vec<&RawValue> = match first {
            Some(b'[') => serde_json::from_slice(body)?,
            Some(b'n') => {
                serde_json::from_slice::<()>(body)?;
                Vec::new()
            }
            _ => vec![serde_json::from_slice(body)?],
        };
        let job = |raw: &RawValue| {
            serde_json::from_str(raw.get()).map_err(|error| match job_id(raw) {
                Some(id) => format!("job {id}: {error}"),
                None => error.to_string(),
            })
        };
        Ok(Self(raw.into_iter().map(job).collect()))
    }
}

fn job_id(raw: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct JobWithId {
        id: String,
    }
    serde_json::from_str::<JobWithId>(raw.get())
        .ok()
        .map(|job| job.id)
}

/// The response of the stop channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StopSignals {
    /// Ids of the jobs to cancel.
    #[serde(rename = "jobsToStop")]
    pub jobs_to_stop: Vec<String>,
}

impl StopSignals {
    /// Creates the response for these job ids.
    #[must_use]
    pub fn new(jobs_to_stop: Vec<String>) -> Self {
        Self { jobs_to_stop }
    }
}

// Not derived: an element that is not a string is skipped, and the others are still cancelled.
impl<'de> Deserialize<'de> for StopSignals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Lenient {
            #[serde(rename = "jobsToStop", default)]
            jobs_to_stop: Option<Vec<IdOrElse>>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum IdOrElse {
            Id(String),
            Else(IgnoredAny),
        }

        let ids = Lenient::deserialize(deserializer)?.jobs_to_stop;
        let known = |id| match id {
            IdOrElse::Id(id) => Some(id),
            IdOrElse::Else(IgnoredAny) => None,
        };
        Ok(Self {
            jobs_to_stop: ids.into_iter().flatten().filter_map(known).collect(),
        })
    }
}

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
    pub error: Option<Value>,
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
        Self {
            error: Some(error.into()),
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
    use serde_json::json;

    #[test]
    fn a_job_keeps_its_input_as_written_and_the_rest_as_extra() {
        let text = r#"{"input": {"a":  1.0}, "id":"j1","webhook":"http://w","batchId":null}"#;
        let job: Job = serde_json::from_str(text).unwrap();
        assert_eq!((job.id.as_str(), job.input.get()), ("j1", r#"{"a":  1.0}"#));
        assert_eq!(
            Value::Object(job.extra.clone()),
            json!({"webhook": "http://w"})
        );
        assert_eq!(
            serde_json::to_string(&job).unwrap(),
            r#"{"id":"j1","input":{"a":  1.0},"webhook":"http://w"}"#
        );
    }

    #[test]
    fn a_number_is_the_same_once_it_is_read() {
        let error = "[3.333333333323333e+38]";
        let post = format!(r#"{{"output":null,"error":{error}}}"#);
        let post: Post = serde_json::from_str(&post).unwrap();
        let written = serde_json::to_string(&post).unwrap();
        assert!(written.contains(error), "{written}");
    }

    #[test]
    fn an_invalid_job_does_not_affect_the_others() {
        let body = br#" [{"id":"a","input":null},{"id":"b"},{"input":1},7] "#;
        let taken = TakenJobs::parse(body).unwrap().0;
        assert_eq!(taken[0].as_ref().unwrap().input.get(), "null");
        assert_eq!(
            taken[1].as_ref().unwrap_err(),
            "job b: missing field `input` at line 1 column 10"
        );
        assert!(taken[2].as_ref().unwrap_err().contains("`id`"));
        assert!(taken[3].is_err());
    }

    #[test]
    fn a_response_may_be_one_job_or_none() {
        assert_eq!(
            TakenJobs::parse(br#"{"id":"a","input":{}}"#)
                .unwrap()
                .0
                .len(),
            1
        );
        assert_eq!(TakenJobs::parse(b"null").unwrap().0.len(), 0);
        assert!(TakenJobs::parse(b"<html>").is_err());
        assert!(TakenJobs::parse(b"").is_err());
    }

    #[test]
    fn stop_signals_skip_elements_that_are_not_ids() {
        let signals: StopSignals =
            serde_json::from_str(r#"{"jobsToStop":["a",1,null,"b"]}"#).unwrap();
        assert_eq!(signals.jobs_to_stop, ["a", "b"]);
        let none: StopSignals = serde_json::from_str(r#"{"jobsToStop":null}"#).unwrap();
        assert_eq!(none, StopSignals::default());
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
