//! The schemas that workers print for their handlers, and the validation of inputs before a handler sees them.

use garde::Validate;
use podwork::handler;
use podwork::testing::TestJob;
use podwork_platform::{Platform, StatusResponse};
use podwork_tests::{Binary, client, submit};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

fn worker(args: &[&str]) -> Binary {
    Binary::new(env!("CARGO_BIN_EXE_podwork-schema-worker"), args)
}

/// Returns the schema that the worker of this handler prints, and asserts that it prints nothing else.
async fn schema(handler: &str) -> Value {
    // Both values are invalid, and must not matter here.
    let env = [
        ("RUNPOD_WEBHOOK_GET_JOB", "nonsense".to_owned()),
        ("RUNPOD_LOG_LEVEL", "LOUD".to_owned()),
    ];
    let output = worker(&[handler, "--rp_schema"]).env(env).output().await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn request() -> Value {
    json!({"prompt": "a fox", "size": {"width": 64, "height": 32}})
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_schema_for_no_reader_is_no_error_but_one_for_a_full_disk_is() {
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let output = worker(&["plain", "--rp_schema"])
        .stdout(write)
        .output()
        .await;
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let said = worker(&["plain", "--rp_schema"])
        .stdout(full)
        .complaint()
        .await;
    assert!(
        said.contains("failed to write to standard output"),
        "{said}"
    );
}

#[tokio::test]
async fn a_worker_prints_the_schema_of_its_handler_and_nothing_else() {
    let printed = schema("plain").await;
    let keys: Vec<&str> = printed
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(keys, ["handler", "input", "output", "streams"]);
    assert_eq!(
        (&printed["handler"], &printed["streams"]),
        (&json!("plain"), &json!(false))
    );
    for part in ["input", "output"] {
        let dialect = &printed[part]["$schema"];
        assert_eq!(
            *dialect, "https://json-schema.org/draft/2020-12/schema",
            "{part}"
        );
    }

    // Names and defaults come from serde, descriptions from doc comments, and bounds from the validation rules.
    let input = &printed["input"];
    assert_eq!(input["required"], json!(["prompt", "size"]));
    assert_eq!(input["additionalProperties"], json!(false));
    let prompt =
        json!({"type": "string", "description": "The subject.", "minLength": 1, "maxLength": 40});
    assert_eq!(input["properties"]["prompt"], prompt);
    let steps = &input["properties"]["stepCount"];
    assert_eq!(
        (&steps["minimum"], &steps["maximum"], &steps["default"]),
        (&json!(1), &json!(50), &json!(20))
    );
    assert_eq!(input["properties"]["tags"]["items"]["minLength"], 2);
    assert_eq!(
        input["$defs"]["Layer"]["properties"]["below"]["items"],
        json!({"$ref": "#/$defs/Layer"})
    );

    // The output schema has the names for serialization, the input schema those for deserialization.
    let output = &printed["output"]["properties"];
    assert!(
        output["stepCount"].is_null() && output["steps"].is_object(),
        "{output}"
    );
}

/// A predicate that accepts the expected schema.
type Judge<'a> = &'a dyn Fn(&Value) -> bool;

#[tokio::test]
async fn prints_the_schema_of_every_kind_of_handler() {
    let text = |of: &Value| of["type"] == "string";
    let picture = |of: &Value| of["title"] == "Picture";
    let token = |of: &Value| of["title"] == "Token";
    let anything = |of: &Value| *of == json!(true);
    let is_type = |of: &Value, name: &str| of["type"] == name;
    let words = |of: &Value| of["additionalProperties"]["format"] == "uint32";
    let kinds: [(&str, bool, Judge<'_>, Judge<'_>); 14] = [
        ("fallible", false, &|of| of["title"] == "Request", &picture),
        ("anything", false, &anything, &anything),
        ("nothing", false, &anything, &|of| is_type(of, "null")),
        ("aliased", false, &text, &|of| is_type(of, "integer")),
        ("borrowed", false, &anything, &words),
        ("streamed", true, &text, &token),
        ("tried", true, &text, &token),
        ("boxed", true, &anything, &token),
        ("iterated", true, &text, &token),
        ("listed", true, &text, &token),
        ("replied", true, &text, &|of| {
            is_type(&of["anyOf"][0], "integer") && of["anyOf"][1]["$ref"] == "#/$defs/Token"
        }),
        ("alike", true, &text, &token),
        // The schema of a batch handler is that of one job.
        ("batched", false, &|of| of["title"] == "Request", &picture),
        ("whole", false, &text, &|of| {
            of["type"] == json!(["integer", "null"])
        }),
    ];
    for (handler, streams, input, output) in kinds {
        let shown = schema(handler).await;
        assert_eq!(shown["handler"], handler);
        assert_eq!(shown["streams"], streams, "{handler}");
        assert!(input(&shown["input"]), "{shown:#}");
        assert!(output(&shown["output"]), "{shown:#}");
    }
}

#[tokio::test]
async fn reports_a_handler_without_a_schema() {
    let said = worker(&["silent", "--rp_schema"]).complaint().await;
    assert_eq!(
        said,
        "error: --rp_schema: the handler `silent` has no schema: add `#[handler(schema)]` to it\n"
    );
}

/// Returns the kind and the message of the job's error.
fn error(status: &StatusResponse) -> (String, String) {
    let report = status.error.as_ref().unwrap().as_str().unwrap();
    let report: Value = serde_json::from_str(report).unwrap();
    let text = |name: &str| report[name].as_str().unwrap().to_owned();
    (text("error_type"), text("error_message"))
}

#[tokio::test]
async fn an_invalid_input_fails_with_every_violation_and_its_path() {
    let platform = Platform::builder().start().await.unwrap();
    let mut running = worker(&["fallible"]).env(platform.worker_env("w")).start();
    let run = async |input: Value| {
        let url = format!("{}/runsync", platform.url());
        let request = client().post(url).json(&json!({ "input": input }));
        let answer = request.send().await.unwrap();
        answer.json::<StatusResponse>().await.unwrap()
    };
    let broken = json!({
        "prompt": "",
        "size": {"width": 64, "height": 4096},
        "tags": ["red", "x"],
        "layers": [{"opacity": 1, "below": [{"opacity": -1}]}],
    });
    let (kind, message) = error(&run(broken).await);
    assert_eq!(kind, "invalid_input");
    assert_eq!(
        message,
        "invalid input at `layers[0].below[0].opacity`: lower than 0; at `prompt`: length is lower than 1; \
         at `size.height`: greater than 1024; at `tags[1]`: length is lower than 2"
    );

    // The error stays readable even with many violations.
    let mut many = request();
    many["layers"] = vec![json!({"opacity": 2}); 100].into();
    let (_, message) = error(&run(many).await);
    assert!(
        message.starts_with("invalid input at `layers[0].opacity`: greater than 1; at "),
        "{message}"
    );
    assert!(message.ends_with("; and 84 more"), "{message}");

    // An input of the wrong type fails as it does without validation. A valid input runs, and the handler may still
    // refuse it.
    let (kind, message) = error(&run(json!({"prompt": 7})).await);
    assert_eq!(kind, "invalid_input");
    assert!(
        message.starts_with("invalid input at `prompt`: invalid type"),
        "{message}"
    );
    let good = run(request()).await;
    assert!(good.output.unwrap().get().contains("a fox"));
    let mut refused = request();
    refused["prompt"] = "nothing".into();
    let (_, message) = error(&run(refused).await);
    assert_eq!(message, "cannot draw nothing");
    running.line("Finished.").await;
    running.signal("-TERM").await;
    assert_eq!(running.code().await, Some(0));
}

#[tokio::test]
async fn an_invalid_item_fails_alone_and_takes_no_place_in_its_batch() {
    let platform = Platform::builder().start().await.unwrap();
    let bad = json!({"prompt": "", "size": {"width": 64, "height": 32}});
    let inputs = [&bad, &request(), &request(), &bad, &request(), &request()];
    let inputs = inputs.map(|input| submit(&platform, input));
    let running = worker(&["batched"]).env(platform.worker_env("w")).start();
    for (at, id) in inputs.iter().enumerate() {
        let ended = platform.ended(id).await.unwrap();
        if matches!(at, 0 | 3) {
            let (_, message) = error(&ended);
            assert_eq!(message, "invalid input at `prompt`: length is lower than 1");
        } else {
            let picture: Value = serde_json::from_str(ended.output.unwrap().get()).unwrap();
            assert_eq!(picture["layers"], 4, "all valid items are in one batch");
        }
    }
    running.signal("-TERM").await;
    assert_eq!(running.code().await, Some(0));
}

#[tokio::test]
async fn a_worker_that_serves_the_api_describes_its_schema_there() {
    let mut running = worker(&[
        "plain",
        "--rp_serve_api",
        "--rp_api_host",
        "127.0.0.1",
        "--rp_api_port",
        "0",
    ])
    .start();
    let url = running.url("Serving `plain` at http://").await;
    let get = async |path: &str| -> Value {
        let answer = client().get(format!("{url}{path}")).send().await.unwrap();
        answer.json().await.unwrap()
    };
    let described = get("/openapi.json").await;
    let input = &described["components"]["schemas"]["RunRequest"]["properties"]["input"];
    assert_eq!(input["$ref"], "#/components/schemas/Input");
    assert_eq!(
        described["components"]["schemas"]["Input"]["title"],
        "Request"
    );

    // The worker accepts the example that the form starts with.
    let start = get("/console/start").await;
    let example: Value = serde_json::from_str(start["example"].as_str().unwrap()).unwrap();
    let expected = json!({"input": {
        "prompt": "text", "size": {"width": 8, "height": 8}, "stepCount": 20, "style": "photo", "tags": [],
    }});
    assert_eq!(example, expected);
    let job = client()
        .post(format!("{url}/runsync"))
        .json(&example)
        .send()
        .await
        .unwrap();
    let job: StatusResponse = job.json().await.unwrap();
    assert!(job.output.is_some(), "{job:?}");
    running.signal("-TERM").await;
    assert_eq!(running.code().await, Some(0));
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[garde(transparent)]
struct Name(#[garde(length(chars, max = 5), custom(no_digits))] String);

#[allow(clippy::trivially_copy_pass_by_ref, reason = "required by garde")]
fn no_digits(name: &str, (): &()) -> garde::Result {
    match name.chars().find(char::is_ascii_digit) {
        Some(_) => Err(garde::Error::new(format!("there is a digit in {name}"))),
        None => Ok(()),
    }
}

#[handler(schema, validate)]
async fn greet(name: Name) -> String {
    format!("Hello, {}!", name.0)
}

#[tokio::test]
async fn the_test_kit_supports_schemas_and_validation() {
    let schema = podwork::schema::<greet>();
    assert_eq!(schema.input["maxLength"], 5);
    assert_eq!(schema.output["type"], "string");

    let run = |name: &str| TestJob::new(json!(name)).run::<greet>();
    // The limit counts characters, not bytes.
    assert_eq!(run("Zoë Ö").await.result.unwrap(), "Hello, Zoë Ö!");
    let failure = run("Jürgen").await.result.unwrap_err();
    assert_eq!(failure.kind(), "invalid_input");
    assert_eq!(failure.message(), "invalid input: length is greater than 5");
    // The error shortens long values that the client sent.
    let failure = run(&format!("{}1", "é".repeat(100_000)))
        .await
        .result
        .unwrap_err();
    let (digit, length) = failure.message().split_once("; ").unwrap();
    assert!(
        digit.starts_with("invalid input: there is a digit in éé"),
        "{digit}"
    );
    assert!(digit.contains("é […] é") && digit.len() < 500, "{digit}");
    assert_eq!(length, "length is greater than 5");
    // The handler is still a plain function, which validates nothing.
    assert_eq!(greet(Name("Jürgen".to_owned())).await, "Hello, Jürgen!");
}
