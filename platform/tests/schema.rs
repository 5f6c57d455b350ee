//! The schemas of endpoints, in `/openapi.json` and in the initial content of forms.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use podwork_platform::{HandlerSchema, Platform};
use serde_json::{Value, json};

async fn get(url: &str, path: &str, key: Option<&str>) -> Value {
    let text = text(url, path, key).await;
    serde_json::from_str(&text).unwrap_or(text.into())
}

async fn text(url: &str, path: &str, key: Option<&str>) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.get(format!("{url}{path}"));
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    request.send().await.unwrap().text().await.unwrap()
}

/// Returns the initial request of a form.
async fn example(url: &str, path: &str) -> Value {
    let start = get(url, path, None).await;
    let text = start["example"].as_str().unwrap_or("null");
    serde_json::from_str(text).unwrap()
}

fn schema(written: &Value) -> HandlerSchema {
    serde_json::from_value(written.clone()).unwrap()
}

fn drawing() -> HandlerSchema {
    schema(&json!({
        "handler": "draw",
        "input": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {"size": {"$ref": "#/$defs/Size"}},
            "required": ["size"],
            "$defs": {"Size": {"type": "integer", "minimum": 8}},
        },
        "output": {"type": "string"},
    }))
}

fn telling() -> HandlerSchema {
    schema(
        &json!({"streams": true, "input": {"examples": ["once"]}, "output": {"type": "integer"}}),
    )
}

#[tokio::test]
async fn the_description_contains_the_schema_of_its_endpoint() {
    let builder = Platform::builder().schema(drawing());
    let platform = builder
        .endpoint_schema("tale", telling())
        .start()
        .await
        .unwrap();
    let url = platform.url();
    let plain = Platform::builder().start().await.unwrap();
    let plain = get(&plain.url(), "/openapi.json", None).await;

    let described = get(&url, "/openapi.json", None).await;
    let schemas = &described["components"]["schemas"];
    // The schema is no longer a document of its own, so its references are moved.
    assert_eq!(schemas["Input"]["$schema"], Value::Null);
    let size = &schemas["Input"]["properties"]["size"]["$ref"];
    assert_eq!(*size, "#/components/schemas/Input/$defs/Size");
    assert_eq!(
        described
            .pointer(size.as_str().unwrap().strip_prefix('#').unwrap())
            .unwrap()["minimum"],
        8
    );
    let input = &schemas["RunRequest"]["properties"]["input"];
    assert_eq!(input["$ref"], "#/components/schemas/Input");
    assert_eq!(input["description"], "The handler's input.");
    // Only a completed job has an output with this schema; before, the output is progress.
    assert_eq!(
        schemas["StatusResponse"]["if"]["properties"]["status"]["const"],
        "COMPLETED"
    );
    let output = &schemas["StatusResponse"]["then"]["properties"]["output"];
    assert_eq!(*output, json!({"$ref": "#/components/schemas/Output"}));
    let words = described["info"]["description"].as_str().unwrap();
    assert!(
        words.contains("the schemas of the endpoint `local` (handler `draw`)."),
        "{words}"
    );

    // For a stream, the schema is that of each chunk.
    let described = get(&url, "/openapi.json?endpoint=tale", None).await;
    let schemas = &described["components"]["schemas"];
    let chunk = json!({"$ref": "#/components/schemas/Output"});
    assert_eq!(
        schemas["StreamChunk"]["properties"]["output"]["$ref"],
        chunk["$ref"]
    );
    let output = &schemas["StatusResponse"]["then"]["properties"]["output"];
    assert_eq!(*output, json!({"type": "array", "items": chunk}));

    // Other endpoints have no schema, and neither has this one after its schema is removed.
    assert_eq!(get(&url, "/openapi.json?endpoint=other", None).await, plain);
    platform.set_schema(None);
    assert_eq!(get(&url, "/openapi.json", None).await, plain);
    platform.set_schema(Some(telling()));
    let described = get(&url, "/openapi.json", None).await;
    assert_eq!(
        described["components"]["schemas"]["Output"]["type"],
        "integer"
    );
}

#[tokio::test]
async fn the_operations_stay_in_their_order() {
    let platform = Platform::builder().schema(drawing()).start().await.unwrap();
    let order = async |path| {
        let text = text(&platform.url(), path, None).await;
        let parts = text.split("\"/v2/{endpoint}/").skip(1);
        let names = parts.map(|part| part.split('"').next().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let told = order("/openapi.json").await;
    assert_eq!(told[..3], ["run", "runsync", "status/{job}"]);
    assert_eq!(told, order("/openapi.json?endpoint=other").await);
}

#[tokio::test]
async fn without_a_schema_the_description_accepts_anything() {
    let builder = Platform::builder().schema(HandlerSchema::default());
    let platform = builder.start().await.unwrap();
    let described = get(&platform.url(), "/openapi.json", None).await;
    let schemas = &described["components"]["schemas"];
    assert!(schemas["Input"].is_null() && schemas["StatusResponse"]["if"].is_null());
    assert_eq!(
        example(&platform.url(), "/console/start").await,
        Value::Null
    );
}

#[tokio::test]
async fn the_platform_does_not_validate_against_schemas() {
    let platform = Platform::builder().schema(drawing()).start().await.unwrap();
    let request = serde_json::from_str(r#"{"input": "no size"}"#).unwrap();
    let job = platform.submit(request).unwrap();
    assert_eq!(platform.status(&job).unwrap().status.as_str(), "IN_QUEUE");
}

#[tokio::test]
async fn the_schema_is_shown_only_with_the_key() {
    let builder = Platform::builder().api_key("key").schema(drawing());
    let platform = builder.start().await.unwrap();
    for (key, shown) in [(None, false), (Some("wrong"), false), (Some("key"), true)] {
        let described = get(&platform.url(), "/openapi.json", key).await;
        assert!(described["paths"].is_object());
        assert_eq!(
            described["components"]["schemas"]["Input"].is_object(),
            shown,
            "{key:?}"
        );
    }
}

#[tokio::test]
async fn the_example_comes_from_the_schema_unless_one_is_set() {
    let builder = Platform::builder().schema(drawing());
    let platform = builder
        .endpoint_schema("tale", telling())
        .start()
        .await
        .unwrap();
    let url = platform.url();
    assert_eq!(
        example(&url, "/console/start").await,
        json!({"input": {"size": 8}})
    );
    assert_eq!(
        example(&url, "/console/start?endpoint=tale").await,
        json!({"input": "once"})
    );
    let start = get(&url, "/console/start?endpoint=tale", None).await;
    assert_eq!(
        (&start["endpoint"], &start["endpoints"]),
        (&json!("tale"), &json!(["local", "tale"]))
    );

    // The hand-written example is for the default endpoint, and for endpoints without a schema.
    let written = r#"{"input": {"size": 64}}"#;
    let builder = Platform::builder().schema(drawing()).example(written);
    let platform = builder
        .endpoint_schema("tale", telling())
        .start()
        .await
        .unwrap();
    let url = platform.url();
    assert_eq!(
        example(&url, "/console/start").await,
        json!({"input": {"size": 64}})
    );
    assert_eq!(
        example(&url, "/console/start?endpoint=tale").await,
        json!({"input": "once"})
    );
    assert_eq!(
        example(&url, "/console/start?endpoint=other").await,
        json!({"input": {"size": 64}})
    );
}

#[tokio::test]
async fn an_invalid_endpoint_id_is_refused() {
    let builder = Platform::builder().endpoint_schema("no/id", drawing());
    let refused = builder.start().await.unwrap_err().to_string();
    assert!(
        refused.starts_with("invalid endpoint id `no/id`"),
        "{refused}"
    );
}

/// Returns a command for the program in this directory.
fn program(folder: &std::path::Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwork-platform"));
    command.args(["--port", "0"]).args(args).current_dir(folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn the_program_reads_schemas_from_files() {
    let folder = tempfile::tempdir().unwrap();
    for (name, schema) in [("draw.json", drawing()), ("tale.json", telling())] {
        let text = serde_json::to_string_pretty(&schema).unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let args = ["--schema", "draw.json", "--schema", "tale:tale.json"];
    let mut platform = program(folder.path(), &args).spawn().unwrap();
    let mut lines = BufReader::new(platform.stdout.take().unwrap()).lines();
    let console =
        lines.find_map(|line| Some(line.unwrap().strip_prefix("# Console: ")?.to_owned()));
    let url = console.unwrap().trim_end_matches('/').to_owned();
    let drawn = example(&url, "/console/start").await;
    let told = example(&url, "/console/start?endpoint=tale").await;
    platform.kill().unwrap();
    platform.wait().unwrap();
    assert_eq!(
        (drawn, told),
        (json!({"input": {"size": 8}}), json!({"input": "once"}))
    );

    std::fs::write(folder.path().join("odd.json"), r#"{"input": "text"}"#).unwrap();
    for (file, problem) in [
        ("odd.json", "`\"text\"` is not a JSON Schema"),
        ("none.json", "No such file"),
    ] {
        let mut refused = program(folder.path(), &["--schema", file]).spawn().unwrap();
        let mut said = String::new();
        refused
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(refused.wait().unwrap().code(), Some(2));
        assert!(
            said.starts_with(&format!("error: cannot read schema file {file}: {problem}")),
            "{said}"
        );
        assert!(
            said.contains("--rp_schema") && said.lines().count() == 1,
            "{said}"
        );
    }
}

#[tokio::test]
async fn the_program_reads_the_webhook_secret_from_a_file_or_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "whsec_?").unwrap();
    let from_file = program(folder.path(), &["--webhook-secret-file", "secret"]);
    let mut from_environment = program(folder.path(), &[]);
    from_environment.env("PODWORK_WEBHOOK_SECRET", "short");
    let no_file = program(folder.path(), &["--webhook-secret-file", "none"]);
    for (mut program, problem) in [
        (from_file, "invalid base64"),
        (from_environment, "too short"),
        (no_file, "cannot read none: No such file"),
    ] {
        let output = program.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = format!("error: webhook secret: {problem}");
        assert!(said.starts_with(&expected), "{said}");
    }
}
