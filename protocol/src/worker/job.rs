//! A job as the platform hands it to a worker.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::limits;

/// The member that a client sends in place of an empty input, because the platform drops an input of `{}`.
const EMPTY_INPUT: &str = "__empty";
/// The maximum length of such an input, in bytes. A longer one is not parsed to look for the member.
const MAX_EMPTY_INPUT: usize = 64;

/// A job as the platform hands it to a worker.
///
/// Parsing a job requires only its id, of at most [`limits::JOB_ID`] bytes. A number is an id as well, as written. A job
/// without an input, or with the input `{"__empty": true}`, has the input `{}`: the platform drops an empty input.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Job {
    /// The job's id, unique on the platform. Starts with `sync-` if the job was submitted by `/runsync`.
    pub id: String,
    /// The handler's input, as the client wrote it.
    pub input: Box<RawValue>,
    /// All other members (`webhook`, `batchId`, `policy`, `s3Config`, …), except those that are `null`. A member that a
    /// [`Value`] cannot hold, such as the number `1e400`, is a string with its JSON text.
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

    /// Parses a job from JSON text. A byte order mark is skipped.
    ///
    /// # Errors
    /// Returns an error if the text is not a JSON object, or the object has no id.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(without_bom(json))
    }
}

// Not derived: `#[serde(flatten)]` buffers its input, and raw JSON cannot be buffered.
impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(JobVisitor)
    }
}

struct JobVisitor;

impl<'de> Visitor<'de> for JobVisitor {
    type Value = Job;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a job: an object with `id` and `input`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Job, A::Error> {
        let (mut id, mut input, mut extra) = (None, None, Map::new());
        while let Some(key) = map.next_key::<String>()? {
            let value: Box<RawValue> = map.next_value()?;
            match key.as_str() {
                "id" => id = read_id(value.get()).or(id),
                "input" => input = Some(value),
                // `null` means the same as an absent member.
                _ if value.get() == "null" => {}
                _ => {
                    let parsed = serde_json::from_str(value.get());
                    extra.insert(key, parsed.unwrap_or_else(|_| value.get().into()));
                }
            }
        }
        let id = id.ok_or_else(|| {
            A::Error::custom(format_args!(
                "no `id` that is a text or a number of at most {} bytes",
                limits::JOB_ID
            ))
        })?;
        let input = input.filter(|input| !is_empty_marker(input));
        Ok(Job {
            id,
            input: input.unwrap_or_else(empty_object),
            extra,
        })
    }
}

/// Reads an id from JSON text: a string that is not empty, or a number as written. Anything else is not an id, nor is
/// a text that is too long for a URL.
pub(super) fn read_id(json: &str) -> Option<String> {
    let id = match json.as_bytes().first()? {
        b'"' => {
            let id: Option<String> = serde_json::from_str(json).ok();
            id.filter(|id| !id.is_empty())
        }
        b'-' | b'0'..=b'9' => {
            let is_number = serde_json::from_str::<IgnoredAny>(json).is_ok();
            is_number.then(|| json.to_owned())
        }
        _ => None,
    };
    id.filter(|id| id.len() <= limits::JOB_ID)
}

/// Removes a byte order mark, and the whitespace around the JSON.
pub(super) fn without_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix("\u{feff}".as_bytes())
        .unwrap_or(body)
        .trim_ascii()
}

fn is_empty_marker(input: &RawValue) -> bool {
    let text = input.get();
    text.len() <= MAX_EMPTY_INPUT
        && text.contains(EMPTY_INPUT)
        && serde_json::from_str::<Map<String, Value>>(text)
            .is_ok_and(|input| input.len() == 1 && input.get(EMPTY_INPUT) == Some(&true.into()))
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is valid JSON")
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(text: &str) -> Job {
        Job::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_job_keeps_its_input_as_written_and_the_rest_as_extra() {
        let job = job(r#"{"input": {"a":  1.0}, "id":"j1","webhook":"http://w","batchId":null}"#);
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
    fn an_empty_input_may_be_missing_or_marked() {
        for text in [
            r#"{"id": "a"}"#,
            "\u{feff}{\"id\": \"a\"}",
            r#"{"id": "a", "input": {}}"#,
            r#"{"id": "a", "input": {"__empty":true}}"#,
            r#"{"id": "a", "input": { "__empty" : true }}"#,
        ] {
            assert_eq!(job(text).input.get(), "{}", "{text}");
        }
        for input in [
            "null",
            "[]",
            r#"{"__empty":false}"#,
            r#"{"__empty":true,"a":1}"#,
            r#""__empty""#,
        ] {
            let text = format!(r#"{{"id": "a", "input": {input}}}"#);
            assert_eq!(job(&text).input.get(), input);
        }
    }

    #[test]
    fn an_id_is_a_text_or_a_number_as_written() {
        for (id, expected) in [
            (r#""a""#, "a"),
            (r#""\u0061/é""#, "a/é"),
            ("7", "7"),
            ("-0", "-0"),
            (
                "98765432109876543210987654321",
                "98765432109876543210987654321",
            ),
            ("1e400", "1e400"),
            (&format!("\"{}\"", "é".repeat(512)), &*"é".repeat(512)),
        ] {
            assert_eq!(job(&format!(r#"{{"id": {id}}}"#)).id, expected);
        }
        for id in [
            "null",
            "true",
            r#""""#,
            "[1]",
            r#"{"id": "a"}"#,
            r#""\ud800""#,
            &format!("\"{}\"", "x".repeat(1025)),
            &"1".repeat(1025),
        ] {
            let job: Result<Job, _> = serde_json::from_str(&format!(r#"{{"id": {id}}}"#));
            let error = job.unwrap_err().to_string();
            assert!(
                error.contains("no `id` that is a text or a number"),
                "{error}"
            );
        }
    }

    #[test]
    fn members_that_are_not_needed_may_have_any_value() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        for (value, expected) in [
            ("5", json!(5)),
            ("{}", json!({})),
            ("1e400", json!("1e400")),
            (r#""\ud800""#, json!(r#""\ud800""#)),
            (&*deep, json!(deep)),
        ] {
            let text = format!(r#"{{"webhook": {value}, "id": "a", "input": 1, "id": null}}"#);
            let job = job(&text);
            assert_eq!((&*job.id, job.input.get()), ("a", "1"));
            assert_eq!(job.extra["webhook"], expected);
        }
        let twice = job(r#"{"id": "a", "policy": 1, "input": 1, "policy": [], "id": "b"}"#);
        assert_eq!((&*twice.id, &twice.extra["policy"]), ("b", &json!([])));
    }
}
