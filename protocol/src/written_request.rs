//! Requests as people write them: in `test_input.json` and on command lines.

use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};

use crate::client::RunRequest;

/// A request in a file or on a command line: the body of `/run`, and optionally the job's id.
///
/// Unlike in a call of `/run`, an unknown member is an error, so that a misspelled one is not ignored.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WrittenRequest {
    /// The job's id, which only a local run uses. Default: the platform chooses one.
    pub id: Option<String>,
    /// The request.
    pub request: RunRequest,
}

impl WrittenRequest {
    /// Parses a request. Ignores a byte order mark at its beginning.
    ///
    /// # Errors
    /// Returns an error that names the member if one is missing, unknown or invalid.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let text = without_bom(text);
        if !text.trim_start().starts_with('{') {
            // A derived `Deserialize` would also accept an array of the values.
            serde_json::from_str::<IgnoredAny>(text)?;
            return Err(serde_json::Error::custom("not a JSON object"));
        }
        let request = serde_json::from_str(text)?;
        let members: Members = serde_json::from_str(text)?;
        if members.id.as_deref().is_some_and(str::is_empty) {
            return Err(serde_json::Error::custom("the `id` is empty"));
        }
        Ok(Self {
            id: members.id,
            request,
        })
    }
}

/// The names of a request's members. [`RunRequest`] reads their values.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Members {
    id: Option<String>,
    #[serde(rename = "input")]
    _input: IgnoredAny,
    #[serde(rename = "webhook", default)]
    _webhook: IgnoredAny,
    #[serde(rename = "policy")]
    _policy: Option<PolicyMembers>,
    #[serde(rename = "s3Config", default)]
    _s3_config: IgnoredAny,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PolicyMembers {
    #[serde(rename = "executionTimeout", default)]
    _execution_timeout: IgnoredAny,
    #[serde(rename = "ttl", default)]
    _ttl: IgnoredAny,
    #[serde(rename = "lowPriority", default)]
    _low_priority: IgnoredAny,
}

/// Returns a text without the byte order mark that some editors write at the beginning of a file.
#[must_use]
pub fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        WrittenRequest::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_members_of_a_request_are_known() {
        let whole = r#"{"id": "mine", "input": 1, "webhook": "http://h/", "s3Config": {"bucketName": "b"},
            "policy": {"executionTimeout": 5000, "ttl": 20000, "lowPriority": true}}"#;
        let read = WrittenRequest::parse(whole).unwrap();
        assert_eq!(read.id.as_deref(), Some("mine"));
        assert_eq!(read.request.policy.unwrap().ttl, Some(20_000));
        let nulls =
            r#"{"id": null, "input": null, "webhook": null, "policy": null, "s3Config": null}"#;
        let read = WrittenRequest::parse(nulls).unwrap();
        assert_eq!((read.id, read.request.input.get()), (None, "null"));
    }

    #[test]
    fn an_unknown_member_is_named() {
        for (text, member) in [
            (r#"{"model": "bge", "input": "hello"}"#, "model"),
            (r#"{"input": 1, "polcy": {"ttl": 20000}}"#, "polcy"),
            (r#"{"input": 1, "s3config": {}}"#, "s3config"),
            (
                r#"{"input": 1, "policy": {"executionTimout": 5000}}"#,
                "executionTimout",
            ),
        ] {
            let expected = format!("unknown field `{member}`, expected one of");
            assert!(problem(text).starts_with(&expected), "{}", problem(text));
        }
    }

    #[test]
    fn an_invalid_request_is_refused() {
        assert!(problem(r#"{"inputs": 1}"#).starts_with("missing field `input`"));
        assert!(problem("[null, 1]").starts_with("not a JSON object"));
        assert!(problem("").starts_with("EOF while parsing a value"));
        assert!(problem(r#"{"id": "", "input": 1}"#).starts_with("the `id` is empty"));
        assert!(problem(r#"{"id": 7, "input": 1}"#).contains("expected a string"));
    }

    #[test]
    fn a_byte_order_mark_is_ignored_only_at_the_beginning() {
        let read = WrittenRequest::parse("\u{feff}{\"input\": \"\u{feff}a\"}").unwrap();
        assert_eq!(read.request.input.get(), "\"\u{feff}a\"");
        assert!(WrittenRequest::parse("\u{feff}\u{feff}{\"input\": 1}").is_err());
    }
}
