//! A worker that speaks the OpenAI API, as published workers do: each job names the route and has the request body.

use podwork::{Context, HandlerError, Result, Stream, handler, try_stream};
use serde::Deserialize;
use serde_json::{Value, json};

/// The input of a job on the OpenAI routes.
#[derive(Debug, Deserialize)]
pub struct OpenAiJob {
    openai_route: String,
    #[serde(default)]
    openai_input: Value,
}

/// Returns the answer of a model that repeats the last message or the prompt, word by word.
///
/// - The model `missing` does not exist, and the model `broken` fails.
/// - The word `break` fails the job at its place.
/// - The word `wait` waits at its place until the job is cancelled.
#[handler]
pub fn openai(job: OpenAiJob, cx: Context) -> impl Stream<Item = Result<Value>> {
    try_stream! {
        let body = job.openai_input;
        match body["model"].as_str() {
            Some("missing") => Err(upstream_error(404, "the model `missing` does not exist"))?,
            Some("broken") => Err(HandlerError::new("out_of_memory", "the model does not fit"))?,
            _ => {}
        }
        match job.openai_route.as_str() {
            "/v1/models" if body.is_null() => {
                yield json!({"object": "list", "data": [model("parrot"), model("broken")]});
            }
            "/v1/embeddings" => yield embeddings(&body),
            "/v1/chat/completions" => {
                let text = body["messages"].as_array().and_then(|messages| messages.last());
                let text = text.map_or("", |message| message["content"].as_str().unwrap_or_default());
                let streams = body["stream"] == true;
                for word in text.split_inclusive(' ') {
                    match word.trim() {
                        "break" => Err(HandlerError::new("broken", "the model broke"))?,
                        "wait" => cx.cancelled().await,
                        _ => {}
                    }
                    if streams {
                        yield event(&chunk(json!({"role": "assistant", "content": word}), None));
                    }
                }
                if streams {
                    yield event(&chunk(json!({}), Some("stop")));
                    yield json!("data: [DONE]\n\n");
                } else {
                    yield completion(text, &body);
                }
            }
            route => Err(upstream_error(404, &format!("no route {route}")))?,
        }
    }
}

/// Returns the error object of the server behind a worker, as the message of an error.
fn upstream_error(code: u16, message: &str) -> HandlerError {
    let error =
        json!({"message": message, "type": "NotFoundError", "param": "model", "code": code});
    HandlerError::new("upstream", json!({ "error": error }).to_string())
}

fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1, "owned_by": "tests"})
}

fn embeddings(body: &Value) -> Value {
    let one =
        |index: usize| json!({"object": "embedding", "index": index, "embedding": [0.5, -0.25]});
    let texts = body["input"].as_array().map_or(1, Vec::len);
    json!({
        "object": "list",
        "model": body["model"],
        "data": (0..texts).map(one).collect::<Vec<_>>(),
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    })
}

/// Returns a completion. If the request has tools, it calls the first one.
fn completion(text: &str, body: &Value) -> Value {
    let message = match &body["tools"][0]["function"]["name"] {
        Value::String(name) => {
            let function = json!({"name": name, "arguments": json!({ "text": text }).to_string()});
            let call = json!({"id": "call-1", "type": "function", "function": function});
            json!({"role": "assistant", "content": null, "tool_calls": [call]})
        }
        _ => json!({"role": "assistant", "content": text}),
    };
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    })
}

fn chunk(delta: Value, finish_reason: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "parrot",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    })
}

fn event(data: &Value) -> Value {
    format!("data: {data}\n\n").into()
}
