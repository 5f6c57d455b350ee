//! The schema of a handler.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The input and output of a handler, as JSON Schema (draft 2020-12).
///
/// A worker prints it if its flag `--rp_schema` is set, and the local platform shows it with the endpoint. Absent
/// members accept any value, so a schema can also be written by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HandlerSchema {
    /// The handler's name.
    pub handler: String,
    /// `true` if the handler may yield chunks.
    pub streams: bool,
    /// The schema of the input.
    #[serde(deserialize_with = "schema")]
    pub input: Value,
    /// The schema of the output, or of each chunk; of both if the handler decides per job whether it streams.
    #[serde(deserialize_with = "schema")]
    pub output: Value,
}

impl HandlerSchema {
    /// Creates a schema.
    pub fn new(handler: impl Into<String>, streams: bool, input: Value, output: Value) -> Self {
        Self {
            handler: handler.into(),
            streams,
            input,
            output,
        }
    }
}

impl Default for HandlerSchema {
    fn default() -> Self {
        Self {
            handler: String::new(),
            streams: false,
            input: Value::Bool(true),
            output: Value::Bool(true),
        }
    }
}

/// Reads a schema.
fn schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    match Value::deserialize(deserializer)? {
        schema @ (Value::Object(_) | Value::Bool(_)) => Ok(schema),
        other => Err(D::Error::custom(format!(
            "`{other}` is not a JSON Schema: expected an object, `true` or `false`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_members_accept_anything() {
        let written = r#"{"input": {"type": "string"}}"#;
        let schema: HandlerSchema = serde_json::from_str(written).unwrap();
        let expected = HandlerSchema {
            input: json!({"type": "string"}),
            ..HandlerSchema::default()
        };
        assert_eq!(schema, expected);
        assert_eq!(schema.output, json!(true));
    }

    #[test]
    fn a_value_that_is_not_a_schema_is_rejected() {
        let no = serde_json::from_str::<HandlerSchema>(r#"{"output": "text"}"#);
        let no = no.unwrap_err().to_string();
        assert!(no.starts_with("`\"text\"` is not a JSON Schema"), "{no}");
    }
}
