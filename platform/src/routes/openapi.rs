//! The description of the client API, generated from the routes, with the schema of an endpoint's input and output if
//! it is known.

use podwork_protocol::HandlerSchema;
use podwork_protocol::client::ErrorBody;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Info, OpenApi, OpenApiVersion, Paths, SecurityRequirement};
use utoipa::{IntoParams, IntoResponses, OpenApi as _};

/// The endpoint, in the path of every operation.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes the fields of `ClientPath`")]
pub(super) struct EndpointParam {
    /// The endpoint's id. An endpoint is created when it is first used.
    endpoint: String,
}

/// The job, in the path of an operation on it.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes the fields of `ClientPath`")]
pub(super) struct JobParam {
    /// The endpoint's id.
    endpoint: String,
    /// The job's id.
    job: String,
}

/// The error responses of all operations.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it describes the responses of `Failure`")]
pub(super) enum Refused {
    /// A parameter or the body is invalid
    #[response(status = 400)]
    Bad(#[to_schema] ErrorBody),
    /// The API key is missing or invalid
    #[response(status = 401)]
    Key(#[to_schema] ErrorBody),
    /// The host or the origin of the request is not allowed
    #[response(status = 403)]
    Foreign(#[to_schema] ErrorBody),
    /// The endpoint or job does not exist, or the job has expired
    #[response(status = 404)]
    NotFound(#[to_schema] ErrorBody),
}

/// The error responses of operations that submit a job.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it describes the responses of `Failure`")]
pub(super) enum NotAdmitted {
    /// The body did not arrive in time
    #[response(status = 408)]
    Slow(#[to_schema] ErrorBody),
    /// The body exceeds the payload limit
    #[response(status = 413)]
    TooLarge(#[to_schema] ErrorBody),
    /// The body is compressed
    #[response(status = 415)]
    Encoded(#[to_schema] ErrorBody),
}

/// The error response of operations with a limit on their rate or on concurrent calls.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it describes the responses of `Failure`")]
pub(super) enum Limited {
    /// The limit of this operation is exceeded, or the endpoint is full; retry after the time in `Retry-After`
    #[response(status = 429)]
    Often(#[to_schema] ErrorBody),
}

/// The general part of the description, which the routes do not contain.
#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "podwork local platform",
    description = "The Runpod Serverless client API, served by podwork's local platform. The operations of the default \
                   endpoint are also available at the root. Errors are `{\"error\": \"…\"}`."
))]
struct Frame;

/// Returns the complete description of the operations.
pub(super) fn describe(operations: OpenApi) -> OpenApi {
    let mut operations = operations;
    for item in operations.paths.paths.values_mut() {
        // Some clients use POST instead of GET, and each operation needs its own id.
        if let (Some(_), Some(post)) = (&item.get, &mut item.post) {
            let id = post.operation_id.take().unwrap_or_default();
            post.operation_id = Some(id + "_post");
        }
    }
    let mut whole = Frame::openapi().nest("/v2/{endpoint}", operations);
    let key = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    whole
        .components
        .get_or_insert_default()
        .add_security_scheme("key", key);
    // The key is optional in the description, since not every platform requires one.
    let none = SecurityRequirement::default();
    whole.security = Some(vec![none, SecurityRequirement::new("key", [""; 0])]);
    whole
}

/// The location of schemas in the description.
const SCHEMAS: &str = "#/components/schemas";

/// The description with the schema of one endpoint's input and output, which `OpenApi` cannot represent. The operations
/// keep their order.
#[derive(Serialize)]
pub(super) struct DescribedCall<'a> {
    openapi: &'a OpenApiVersion,
    info: Info,
    paths: &'a Paths,
    components: Value,
    security: &'a Option<Vec<SecurityRequirement>>,
}

impl<'a> DescribedCall<'a> {
    pub(super) fn of(operations: &'a OpenApi, id: &str, schema: &HandlerSchema) -> Self {
        let mut info = operations.info.clone();
        let by = match schema.handler.as_str() {
            "" => String::new(),
            handler => format!(" (handler `{handler}`)"),
        };
        let text = info.description.unwrap_or_default();
        info.description = Some(format!(
            "{text} `Input` and `Output` are the schemas of the endpoint `{id}`{by}."
        ));
        let mut components = json!(operations.components);
        if let Some(Value::Object(schemas)) = components.get_mut("schemas") {
            describe_endpoint(schemas, schema);
        }
        Self {
            openapi: &operations.openapi,
            info,
            paths: &operations.paths,
            components,
            security: &operations.security,
        }
    }
}

fn describe_endpoint(schemas: &mut Map<String, Value>, schema: &HandlerSchema) {
    if let Some(input) = place(schemas, "Input", &schema.input) {
        refer(schemas, "RunRequest", "input", input);
    }
    let Some(output) = place(schemas, "Output", &schema.output) else {
        return;
    };
    let whole = if schema.streams {
        refer(schemas, "StreamChunk", "output", output.clone());
        // The output of a stream is empty, or all chunks again.
        json!({"type": "array", "items": output})
    } else {
        output
    };
    // Before the end, the output is progress, which has no schema.
    if let Some(Value::Object(status)) = schemas.get_mut("StatusResponse") {
        status.insert(
            "if".to_owned(),
            json!({"properties": {"status": {"const": "COMPLETED"}}}),
        );
        status.insert("then".to_owned(), json!({"properties": {"output": whole}}));
    }
}

/// Adds a schema to the description under this name, and returns a reference to it; `None` if the schema allows
/// anything.
fn place(schemas: &mut Map<String, Value>, name: &str, schema: &Value) -> Option<Value> {
    if *schema == Value::Bool(true) {
        return None;
    }
    let at = format!("{SCHEMAS}/{name}");
    let mut schema = schema.clone();
    if let Value::Object(members) = &mut schema {
        // `$schema` is only valid at the root of a document.
        members.remove("$schema");
    }
    move_references(&mut schema, &at);
    schemas.insert(name.to_owned(), schema);
    Some(json!({ "$ref": at }))
}

/// Adds a reference to a schema to a field, and keeps the field's other keywords.
fn refer(schemas: &mut Map<String, Value>, of: &str, field: &str, reference: Value) {
    let field = schemas
        .get_mut(of)
        .and_then(|schema| schema.pointer_mut(&format!("/properties/{field}")));
    if let (Some(Value::Object(field)), Value::Object(reference)) = (field, reference) {
        field.extend(reference);
    }
}

/// Moves references within the schema's document below `root`, the schema's new location.
fn move_references(schema: &mut Value, root: &str) {
    let Value::Object(members) = schema else {
        return;
    };
    // A schema with `$id` is a document of its own.
    if members.contains_key("$id") {
        return;
    }
    for (keyword, value) in members {
        match (keyword.as_str(), value) {
            ("$ref", Value::String(to)) => {
                if to == "#" || to.starts_with("#/") {
                    to.replace_range(..1, root);
                }
            }
            // The values of these keywords are data, even if they look like schemas.
            ("const" | "default" | "enum" | "examples", _) => {}
            (
                "$defs" | "definitions" | "dependentSchemas" | "patternProperties" | "properties",
                Value::Object(named),
            ) => named
                .values_mut()
                .for_each(|schema| move_references(schema, root)),
            (_, Value::Array(several)) => {
                for schema in several {
                    move_references(schema, root);
                }
            }
            (_, value) => move_references(value, root),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_follow_their_schema_and_data_stays() {
        let mut schema = json!({
            "$ref": "#/$defs/Node",
            "$defs": {
                "Node": {
                    "properties": {
                        "$ref": {"type": "string"},
                        "default": {"$ref": "#"},
                        "more": {"items": {"anyOf": [{"$ref": "#/$defs/Node"}, {"$ref": "https://example.com/#/x"}]}},
                    },
                    "default": {"$ref": "#/data"},
                },
                "own": {"$id": "https://example.com/own", "$ref": "#/x"},
            },
        });
        move_references(&mut schema, "#/at/Input");
        let expected = json!({
            "$ref": "#/at/Input/$defs/Node",
            "$defs": {
                "Node": {
                    "properties": {
                        "$ref": {"type": "string"},
                        "default": {"$ref": "#/at/Input"},
                        "more": {"items": {"anyOf": [{"$ref": "#/at/Input/$defs/Node"}, {"$ref": "https://example.com/#/x"}]}},
                    },
                    "default": {"$ref": "#/data"},
                },
                "own": {"$id": "https://example.com/own", "$ref": "#/x"},
            },
        });
        assert_eq!(schema, expected);
    }
}
