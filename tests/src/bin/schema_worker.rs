//! A worker for tests of `--rp_schema` and of input validation. The first argument selects the handler.
#![allow(
    clippy::unnecessary_wraps,
    reason = "handlers have the shapes that are tested"
)]

use std::collections::BTreeMap;

use garde::Validate;
use podwork::{
    Batch, Context, ExitCode, Reply, Result, Stream, Worker, handler, stream, try_stream,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request for a picture.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    /// The subject.
    #[garde(length(chars, min = 1, max = 40))]
    prompt: String,
    #[garde(dive)]
    size: Size,
    /// The number of sampling steps.
    #[garde(range(min = 1, max = 50))]
    #[serde(default = "twenty")]
    step_count: u32,
    #[garde(length(max = 2), inner(length(min = 2)))]
    #[serde(default)]
    tags: Vec<String>,
    #[garde(skip)]
    #[serde(default)]
    style: Style,
    #[garde(length(max = 100), dive)]
    #[serde(default)]
    layers: Vec<Layer>,
}

fn twenty() -> u32 {
    20
}

/// A size in pixels.
#[derive(Debug, Deserialize, Serialize, JsonSchema, Validate)]
struct Size {
    #[garde(range(min = 8, max = 1024))]
    width: u32,
    #[garde(range(min = 8, max = 1024))]
    height: u32,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Style {
    #[default]
    Photo,
    Drawing {
        lines: u8,
    },
}

/// A layer, which may contain other layers.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
struct Layer {
    #[garde(range(min = 0.0, max = 1.0))]
    opacity: f64,
    #[garde(dive)]
    #[serde(default)]
    below: Vec<Layer>,
}

/// A generated picture.
#[derive(Debug, Serialize, JsonSchema)]
struct Picture {
    prompt: String,
    size: Size,
    steps: u32,
    style: Style,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_tag: Option<String>,
    layers: usize,
}

impl From<Request> for Picture {
    fn from(request: Request) -> Self {
        Self {
            prompt: request.prompt,
            size: request.size,
            steps: request.step_count,
            style: request.style,
            first_tag: request.tags.into_iter().next(),
            layers: request.layers.iter().map(Layer::count).sum(),
        }
    }
}

impl Layer {
    fn count(&self) -> usize {
        1 + self.below.iter().map(Self::count).sum::<usize>()
    }
}

#[handler(schema, validate)]
fn plain(request: Request) -> Picture {
    request.into()
}

#[handler(validate, schema)]
async fn fallible(request: Request, cx: Context) -> Result<Picture> {
    cx.progress("drawing");
    if request.prompt == "nothing" {
        return Err("cannot draw nothing".into());
    }
    Ok(request.into())
}

#[handler(schema)]
async fn anything(input: Value) -> Value {
    input
}

#[handler(schema)]
async fn nothing() {}

/// An alias of `Result`.
type Answer<T> = std::result::Result<T, std::num::ParseIntError>;

#[handler(schema)]
fn aliased(text: String) -> Answer<i64> {
    text.parse()
}

struct Words {
    known: BTreeMap<String, u32>,
}

/// Returns a value that borrows from the state, so the macro cannot repeat the signature elsewhere.
#[handler(schema)]
async fn borrowed(words: &Words) -> &BTreeMap<String, u32> {
    &words.known
}

/// A chunk of a stream.
#[derive(Debug, Serialize, JsonSchema)]
struct Token {
    text: String,
    at: usize,
}

fn tokens(text: &str) -> impl Iterator<Item = Token> {
    text.split_whitespace().enumerate().map(|(at, word)| Token {
        text: word.to_owned(),
        at,
    })
}

#[handler(schema, join)]
fn streamed(text: String) -> impl Stream<Item = Token> {
    stream! {
        for token in tokens(&text) {
            yield token;
        }
    }
}

#[handler(schema)]
async fn tried(text: String) -> impl Stream<Item = Result<Token>> {
    try_stream! {
        for token in tokens(&text) {
            yield token;
        }
    }
}

/// Returns a boxed stream, so that the macro cannot read the chunk type from the signature.
#[handler(stream, schema)]
fn boxed(words: &Words) -> std::pin::Pin<Box<dyn Stream<Item = Result<Token>> + Send + '_>> {
    Box::pin(try_stream! {
        for (at, text) in words.known.keys().cloned().enumerate() {
            yield Token { text, at };
        }
    })
}

#[handler(schema)]
fn iterated(text: String) -> impl Iterator<Item = Token> {
    tokens(&text).collect::<Vec<_>>().into_iter()
}

#[handler(schema, iterator)]
fn listed(text: String) -> Vec<Result<Token>> {
    tokens(&text).map(Ok).collect()
}

#[handler(schema)]
async fn replied(text: String) -> Reply<usize, Token> {
    Reply::stream(stream! {
        for token in tokens(&text) {
            yield token;
        }
    })
}

#[handler(schema)]
fn alike(text: String) -> Result<Reply<Token>> {
    let token = tokens(&text).next().ok_or("no token")?;
    Ok(Reply::once(token))
}

#[handler(schema, validate, max_batch = 4, max_wait = "1s")]
fn batched(requests: Batch<Request>) -> Vec<Result<Picture>> {
    // Lets the test see the size of the batch.
    let jobs = requests.len();
    let picture = |request: Request| Picture {
        layers: jobs,
        ..request.into()
    };
    requests
        .into_iter()
        .map(|request| Ok(picture(request)))
        .collect()
}

#[handler(schema)]
fn whole(texts: Batch<String>, words: &Words) -> Result<Vec<Option<u32>>> {
    Ok(texts
        .iter()
        .map(|text| words.known.get(text).copied())
        .collect())
}

#[handler]
fn silent(request: Request) -> usize {
    request.prompt.len()
}

fn words() -> Words {
    println!("running setup");
    Words {
        known: [("one".to_owned(), 1), ("two".to_owned(), 2)].into(),
    }
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("fallible") => podwork::run::<fallible>(),
        Some("anything") => podwork::run::<anything>(),
        Some("nothing") => podwork::run::<nothing>(),
        Some("aliased") => podwork::run::<aliased>(),
        Some("borrowed") => Worker::new::<borrowed>().setup(words).run(),
        Some("streamed") => podwork::run::<streamed>(),
        Some("tried") => podwork::run::<tried>(),
        Some("boxed") => Worker::new::<boxed>().setup(words).run(),
        Some("iterated") => podwork::run::<iterated>(),
        Some("listed") => podwork::run::<listed>(),
        Some("replied") => podwork::run::<replied>(),
        Some("alike") => podwork::run::<alike>(),
        Some("batched") => podwork::run::<batched>(),
        Some("whole") => Worker::new::<whole>().setup(words).run(),
        Some("silent") => podwork::run::<silent>(),
        _ => podwork::run::<plain>(),
    }
}
