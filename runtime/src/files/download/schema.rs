//! The JSON Schemas of files in a job's input.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::input_file::InputFile;
use super::remote_file::RemoteFile;

impl JsonSchema for RemoteFile {
    fn schema_name() -> Cow<'static, str> {
        "RemoteFile".into()
    }

    fn schema_id() -> Cow<'static, str> {
        "podwork::files::RemoteFile".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema("An http:, https: or data: URL of a file.", Some("uri"))
    }
}

impl JsonSchema for InputFile {
    fn schema_name() -> Cow<'static, str> {
        "InputFile".into()
    }

    fn schema_id() -> Cow<'static, str> {
        "podwork::files::InputFile".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema("A file: an http:, https: or data: URL, or base64.", None)
    }
}

/// Returns the schema of a text, or of an object with that text as its `url`.
fn schema(description: &str, format: Option<&str>) -> Schema {
    let mut text = json_schema!({ "type": "string", "description": description });
    if let Some(format) = format {
        text.insert("format".to_owned(), format.into());
    }
    json_schema!({
        "anyOf": [
            text,
            {
                "type": "object",
                "properties": {
                    "url": text,
                    "sha256": {
                        "type": ["string", "null"],
                        "pattern": "^[0-9a-fA-F]{64}$",
                        "description": "The SHA-256 digest that the file must have.",
                    },
                    "name": { "type": ["string", "null"], "description": "The name of the file." },
                    "headers": {
                        "type": ["object", "null"],
                        "additionalProperties": { "type": "string" },
                        "description": "Request headers, such as Authorization. They are sent only to the host of the URL.",
                    },
                },
                "required": ["url"],
                "additionalProperties": false,
            },
        ],
    })
}
