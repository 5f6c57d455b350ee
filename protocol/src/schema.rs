//! What a handler takes and gives.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What a handler takes and gives, as JSON Schema (draft 2020-12).
///
/// A worker prints it for its flag `--rp_schema`, and the local platform shows it with the endpoint. What is left out stands
/// for anything, so it may be written by hand for a worker that does not tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandlerSchema {
    /// The handler's name.
    pub handler: String,
    /// Whether it yields chunks.
    pub streams: bool,
    /// The schema of its input.
    #[serde(deserialize_with = "schema")]
    pub input: Value,
    /// The schema of its output; where it yields chunks, of each of these.
    #[serde(deserialize_with = "schema")]
    pub output: Value,
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

/// What can be a schema.
fn schema<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    match Value::deserialize(deserializer)? {
        schema @ (Value::Object(_) | Value::Bool(_)) => Ok(schema),
        other => Err(D::Error::custom(format!(
            "`{other}` is no JSON Schema, which is an object, `true` or `false`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_stands_for_anything() {
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
    fn what_is_no_schema_is_said() {
        let no = serde_json::from_str::<HandlerSchema>(r#"{"output": "text"}"#);
        let no = no.unwrap_err().to_string();
        assert!(no.starts_with("`\"text\"` is no JSON Schema"), "{no}");
    }
}
