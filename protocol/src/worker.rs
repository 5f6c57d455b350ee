//! Bodies that a worker and the platform exchange.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::raw::present;

/// Header that carries the job id on every result, progress update and chunk.
pub const REQUEST_ID_HEADER: &str = "X-Request-ID";
/// Header that our workers put on every chunk, beyond the official worker's: the same for each try of one chunk and no
/// other's, so that a platform which accepted a chunk whose answer was lost can tell that it comes again.
pub const IDEMPOTENCY_KEY_HEADER: &str = "Idempotency-Key";
/// Content type of a worker's posts, although their body is JSON text: the official worker sends this one.
pub const POST_CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

/// A job as a worker takes it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Unique on the platform; starts with `sync-` when it was submitted by `/runsync`.
    pub id: String,
    /// The handler's input, as the client wrote it.
    pub input: Box<RawValue>,
    /// All else that the platform sent along (`webhook`, `batchId`, `policy`, `s3Config`, …).
    pub extra: Map<String, Value>,
}

// By hand, since `#[serde(flatten)]` buffers its input, and raw JSON cannot be buffered.
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
                        // A null says nothing that its absence does not.
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

/// The answer to a take: one job, or several.
///
/// An element that is not a job does not spoil its neighbours: it is kept as the reason why not.
#[derive(Debug)]
pub struct TakenJobs(pub Vec<Result<Job, String>>);

impl TakenJobs {
    /// Reads the body of a take's answer: an object, a list of objects, or `null`.
    ///
    /// # Errors
    /// The body is not JSON, or neither of these.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
        // As a rule they are all jobs, and the body, which may be large, is read once.
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
            serde_json::from_str(raw.get()).map_err(|error| match named_id(raw) {
                Some(id) => format!("job {id}: {error}"),
                None => error.to_string(),
            })
        };
        Ok(Self(raw.into_iter().map(job).collect()))
    }
}

fn named_id(raw: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_str::<Named>(raw.get())
        .ok()
        .map(|named| named.id)
}

/// The answer of the stop channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StopSignals {
    /// Ids of jobs that this worker should stop.
    #[serde(rename = "jobsToStop")]
    pub jobs_to_stop: Vec<String>,
}

// By hand: an element that is not a text is passed over, since the others still want stopping.
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

/// A worker's post: a final result, a progress update (`status` is `IN_PROGRESS`) or a stream chunk (`output` alone).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Post {
    /// `IN_PROGRESS` on a progress update, else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The result, the progress, or the chunk. `Some` also for `null`.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub output: Option<Box<RawValue>>,
    /// Why the job failed: of ours, the JSON text of an [`ErrorReport`]; of others, anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// Asks the platform to replace this worker.
    #[serde(
        rename = "stopPod",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub stop_pod: bool,
}

/// What the `error` of a failed job tells, as JSON text inside a string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// The error's type.
    pub error_type: String,
    /// What happened.
    pub error_message: String,
    /// Where, or by what chain of causes.
    pub error_traceback: String,
    /// Host name of the worker.
    pub hostname: String,
    /// Id of the worker.
    pub worker_id: String,
    /// SDK version of the worker.
    pub runpod_version: String,
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
    fn one_bad_job_does_not_spoil_a_batch() {
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
    fn a_take_may_bring_one_job_or_none() {
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
    fn stop_signals_pass_over_what_is_no_id() {
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
