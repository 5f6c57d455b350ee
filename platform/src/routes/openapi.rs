//! The description of the client contract, made from the routes themselves; and what an endpoint takes and gives, where that
//! is known.

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
#[expect(dead_code, reason = "it describes what `ClientPath` reads")]
pub(super) struct EndpointParam {
    /// The endpoint's id. An endpoint comes to life when it is first used.
    endpoint: String,
}

/// The job, in the path of an operation on it.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it describes what `ClientPath` reads")]
pub(super) struct JobParam {
    /// The endpoint's id.
    endpoint: String,
    /// The job's id.
    job: String,
}

/// What any operation may answer instead.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it describes what `Failure` answers")]
pub(super) enum Refused {
    /// The request makes no sense: a parameter or the body is wrong
    #[response(status = 400)]
    Bad(#[to_schema] ErrorBody),
    /// The key is missing or wrong
    #[response(status = 401)]
    Key(#[to_schema] ErrorBody),
    /// There is no such endpoint or job, or the job has expired
    #[response(status = 404)]
    NotFound(#[to_schema] ErrorBody),
}

/// What submitting a job may be answered with instead.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it describes what `Failure` answers")]
pub(super) enum NotAdmitted {
    /// The body did not arrive in time
    #[response(status = 408)]
    Slow(#[to_schema] ErrorBody),
    /// The body is over the payload limit
    #[response(status = 413)]
    TooLarge(#[to_schema] ErrorBody),
    /// Over the rate limit, or the endpoint is full; `Retry-After` says when to come again
    #[response(status = 429)]
    Often(#[to_schema] ErrorBody),
}

/// What the routes do not say themselves.
#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Runpod Serverless, at home",
    description = "The client operations of a serverless endpoint, as podwork's local platform answers them. Each also \
                   answers at the root, for the platform's default endpoint. Refusals are `{\"error\": \"…\"}`."
))]
struct Frame;

/// The operations in their frame.
pub(super) fn describe(operations: OpenApi) -> OpenApi {
    let mut operations = operations;
    for item in operations.paths.paths.values_mut() {
        // Some clients send by POST what is asked by GET; each operation has an id of its own.
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
    // Asked for only where the platform has a key.
    let none = SecurityRequirement::default();
    whole.security = Some(vec![none, SecurityRequirement::new("key", [""; 0])]);
    whole
}

/// Where the description keeps its schemas.
const SCHEMAS: &str = "#/components/schemas";

/// The description with what one endpoint takes and gives, which JSON alone can hold. The operations stay in their order.
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
            handler => format!(", by its handler `{handler}`"),
        };
        let text = info.description.unwrap_or_default();
        info.description = Some(format!(
            "{text} `Input` and `Output` are what the endpoint `{id}` takes and gives{by}."
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
        // Empty, or all chunks once more.
        json!({"type": "array", "items": output})
    } else {
        output
    };
    // Before the end it is progress, of which nothing is known.
    if let Some(Value::Object(status)) = schemas.get_mut("StatusResponse") {
        status.insert(
            "if".to_owned(),
            json!({"properties": {"status": {"const": "COMPLETED"}}}),
        );
        status.insert("then".to_owned(), json!({"properties": {"output": whole}}));
    }
}

/// Puts a schema among those of the description, under this name; the reference to it. `None`: it says nothing.
fn place(schemas: &mut Map<String, Value>, name: &str, schema: &Value) -> Option<Value> {
    if *schema == Value::Bool(true) {
        return None;
    }
    let at = format!("{SCHEMAS}/{name}");
    let mut schema = schema.clone();
    if let Value::Object(members) = &mut schema {
        // It is said of whole documents.
        members.remove("$schema");
    }
    move_references(&mut schema, &at);
    schemas.insert(name.to_owned(), schema);
    Some(json!({ "$ref": at }))
}

/// Has a field refer to a schema; what is said of the field itself stays.
fn refer(schemas: &mut Map<String, Value>, of: &str, field: &str, reference: Value) {
    let field = schemas
        .get_mut(of)
        .and_then(|schema| schema.pointer_mut(&format!("/properties/{field}")));
    if let (Some(Value::Object(field)), Value::Object(reference)) = (field, reference) {
        field.extend(reference);
    }
}

/// Has what refers to a place in the schema's own document refer to the same place below `root`, where it is put.
fn move_references(schema: &mut Value, root: &str) {
    let Value::Object(members) = schema else {
        return;
    };
    // It is a document of its own, wherever it stands.
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
            // What is data may look like a schema, and is none.
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
