//! What a handler takes and gives.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a handler takes and gives, as JSON Schema (draft 2020-12).
///
/// A worker prints it for its flag `--schema`, and the local platform shows it with the endpoint. What is left out stands
/// for anything, so it may be written by hand for a worker that does not tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HandlerSchema {
    /// The handler's name.
    pub handler: String,
    /// Whether it yields chunks.
    pub streams: bool,
    /// The schema of its input.
    pub input: Value,
    /// The schema of its output; where it yields chunks, of each of these.
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
