//! The response of the stop channel.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::job::{read_id, without_bom};

/// The response of the stop channel.
///
/// Parsing skips an element that is not an id, so that the other jobs are still cancelled. A single id in place of a list
/// is one job to cancel. As in a [`Job`](super::Job), a number is an id.
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

    /// Parses the body of a response: an object, or nothing. A byte order mark is skipped.
    ///
    /// # Errors
    /// Returns an error if the body is not JSON, or `jobsToStop` is neither a list nor an id.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        let body = without_bom(body);
        if body.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(body)
    }
}

impl<'de> Deserialize<'de> for StopSignals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StopVisitor)
    }
}

struct StopVisitor;

impl<'de> Visitor<'de> for StopVisitor {
    type Value = StopSignals;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `jobsToStop`")
    }

    fn visit_unit<E>(self) -> Result<StopSignals, E> {
        Ok(StopSignals::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StopSignals, A::Error> {
        let mut ids = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "jobsToStop" {
                let value: Box<RawValue> = map.next_value()?;
                ids.extend(read_ids(value.get())?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(StopSignals::new(ids))
    }
}

fn read_ids<E: serde::de::Error>(json: &str) -> Result<Vec<String>, E> {
    if json == "null" {
        return Ok(Vec::new());
    }
    if let Some(id) = read_id(json) {
        return Ok(vec![id]);
    }
    let elements: Vec<&RawValue> = serde_json::from_str(json).map_err(|_| {
        E::invalid_type(
            Unexpected::Other("another value"),
            &"`jobsToStop`, a list of ids",
        )
    })?;
    let ids = elements.into_iter().filter_map(|id| read_id(id.get()));
    Ok(ids.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(body: &str) -> Vec<String> {
        let signals = StopSignals::parse(body.as_bytes());
        signals
            .unwrap_or_else(|error| panic!("{body}: {error}"))
            .jobs_to_stop
    }

    #[test]
    fn elements_that_are_not_ids_are_skipped() {
        let body = r#"{"jobsToStop":["a",1,null,"",{},"\ud800",[["x"]],1e400,"b"]}"#;
        assert_eq!(ids(body), ["a", "1", "1e400", "b"]);
    }

    #[test]
    fn a_response_may_name_no_jobs_or_one() {
        for none in [
            "",
            " \n",
            "null",
            "{}",
            r#"{"jobsToStop":null}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(ids(none), [""; 0], "{none:?}");
        }
        assert_eq!(ids(r#"{"jobsToStop":"a"}"#), ["a"]);
        let twice = "\u{feff}{\"jobsToStop\":[\"a\"],\"more\":1e400,\"jobsToStop\":[\"b\"]}";
        assert_eq!(ids(twice), ["a", "b"]);
        for bad in ["[]", "7", r#"{"jobsToStop":{"a":1}}"#, "<html>"] {
            assert!(StopSignals::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
