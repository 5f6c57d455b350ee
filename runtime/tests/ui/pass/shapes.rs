#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub)]
//! Handlers of many shapes, all of which compile without warnings.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::pin::Pin;

use podwork::{Batch, Context, HandlerError, Result, Stream, handler, stream, try_stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Deserialize)]
struct Request {
    text: String,
}

#[derive(Serialize)]
struct Reply {
    text: String,
}

struct Model(String);

type Answer = std::result::Result<Reply, std::io::Error>;

#[handler]
async fn nothing() {}

#[handler]
fn nothing_blocking() {}

/// The docs stay on the function.
#[handler]
#[must_use]
async fn any_order(model: &Model, Request { text }: Request, cx: Context) -> Answer {
    cx.progress(&model.0);
    Ok(Reply { text })
}

#[handler]
async fn mutable(mut input: Vec<u32>) -> Vec<u32> {
    input.sort_unstable();
    input
}

#[handler]
fn ignoring(_: Value, _cx: podwork::Context) -> impl Serialize {
    1
}

#[handler]
async fn borrows_from_the_state(model: &Model) -> &str {
    &model.0
}

#[handler]
async fn named_lifetime<'m>(model: &'m Model) -> Result<Cow<'m, str>> {
    Ok(Cow::Borrowed(&model.0))
}

#[handler]
fn boxed_error(input: String) -> std::result::Result<u32, Box<dyn std::error::Error + Send + Sync>> {
    Ok(input.parse()?)
}

#[handler]
fn text_error() -> Result<u32, String> {
    Err("no".to_owned())
}

#[handler]
fn streams(input: Request, model: &Model, cx: Context) -> impl Stream<Item = String> {
    stream! {
        cx.progress(1);
        yield format!("{}{}", model.0, input.text);
    }
}

#[handler]
async fn fallible_stream(input: String) -> impl Stream<Item = Result<u32>> + Send {
    try_stream! {
        for part in input.split(' ') {
            yield part.parse::<u32>()?;
        }
    }
}

#[handler(stream)]
fn boxed_stream(model: &Model) -> Pin<Box<dyn Stream<Item = Result<Reply, HandlerError>> + Send + '_>> {
    Box::pin(stream! { yield Ok(Reply { text: model.0.clone() }) })
}

#[handler]
fn iterates(model: &Model) -> impl DoubleEndedIterator<Item = char> {
    model.0.chars()
}

#[handler(iterator)]
fn listed(n: u32) -> Vec<Result<u32>> {
    vec![Ok(n), Err("over".into())]
}

#[handler]
fn not_send(n: PhantomData<*const u8>) -> impl Iterator<Item = PhantomData<*const u8>>
where
    u8: Copy,
{
    std::iter::once(n)
}

#[handler]
fn r#loop(state: &Value, input: ()) -> Value {
    let () = input;
    state.clone()
}

#[handler]
fn call(call: u8) -> u8 {
    call
}

#[handler]
fn state(state: &u8) -> u8 {
    *state
}

#[handler]
#[deprecated]
fn old() {}

#[handler]
#[cfg(any())]
fn absent(left: NoSuchType) -> AndNone {}

const AT_ONCE: usize = 4;

#[handler(max_batch = AT_ONCE, max_wait = std::time::Duration::from_millis(2))]
fn batch(inputs: Batch<Request>, model: &Model) -> Vec<Reply> {
    let reply = |Request { text }| Reply { text: format!("{}{text}", model.0) };
    inputs.into_iter().map(reply).collect()
}

#[handler(max_batch = 4, max_wait = "1s")]
async fn fallible_batch(mut inputs: podwork::Batch<String>) -> Vec<Result<u32>> {
    inputs = inputs.into_iter().collect();
    inputs.iter().map(|input| Ok(input.parse()?)).collect()
}

const MOST: usize = 4096;

#[handler(max_batch = 64, max_weight = MOST, weight = String::len)]
fn weighed_batch(inputs: Batch<String>) -> Vec<usize> {
    inputs.iter().map(String::len).collect()
}

#[handler(weight = String::len, max_weight = 4 * 1024 * 1024 * 1024)]
fn batch_of_much(inputs: Batch<String>) -> Vec<usize> {
    inputs.iter().map(String::len).collect()
}

#[handler(weight = |input: &Request| input.text.len(), max_weight = 1)]
fn batch_weighed_by_closure(inputs: Batch<Request>) -> Vec<usize> {
    vec![0; inputs.len()]
}

#[handler]
async fn batch_or_error<'m>(model: &'m Model, inputs: Batch<Value>) -> Result<Vec<&'m str>, String> {
    Ok(vec![&*model.0; inputs.len()])
}

#[handler]
fn batch_of_tags(inputs: Batch<()>) -> std::result::Result<Vec<Result<Value>>, Box<dyn std::error::Error + Send + Sync>> {
    let (inputs, contexts) = inputs.into_parts();
    let named = inputs.iter().zip(contexts).map(|((), cx)| Ok(cx.id().into()));
    Ok(named.collect())
}

macro_rules! handlers {
    ($($name:ident($input:ty) -> $output:ty;)*) => {$(
        #[handler]
        async fn $name(input: $input) -> $output {
            input.into()
        }
    )*};
}

handlers! {
    widen(u8) -> u64;
    keep(String) -> String;
}

mod inner {
    use super::handler;

    /// Public in a private module.
    #[derive(Debug)]
    pub(crate) struct Model;

    #[handler]
    pub(crate) async fn greet(name: String, _model: &Model) -> String {
        name
    }
}

fn main() {
    #[handler]
    fn local(input: Request) -> String {
        input.text
    }

    // Never runs: each call only has to compile.
    if std::env::args().len() > 99 {
        podwork::run::<local>();
        podwork::run::<nothing>();
        podwork::run::<nothing_blocking>();
        podwork::run::<mutable>();
        podwork::run::<ignoring>();
        podwork::run::<boxed_error>();
        podwork::run::<text_error>();
        podwork::run::<fallible_stream>();
        podwork::run::<listed>();
        podwork::run::<not_send>();
        podwork::run::<call>();
        podwork::run::<old>();
        podwork::run::<widen>();
        podwork::run::<keep>();
        podwork::run::<fallible_batch>();
        podwork::run::<batch_of_tags>();
        podwork::run::<weighed_batch>();
        podwork::run::<batch_weighed_by_closure>();
        podwork::Worker::new::<batch>().max_batch(2).setup(|| Model(String::new())).run();
        podwork::Worker::new::<batch_or_error>().setup(|| Model(String::new())).run();
        podwork::Worker::new::<any_order>().setup(|| Model(String::new())).run();
        podwork::Worker::new::<borrows_from_the_state>().setup(|| Model(String::new())).run();
        podwork::Worker::new::<named_lifetime>().setup(|| Model(String::new())).run();
        podwork::Worker::new::<streams>().setup(|| Model(String::new())).run();
        podwork::Worker::new::<boxed_stream>().setup(|| Model(String::new())).run();
        podwork::Worker::new::<iterates>().setup(|| Model(String::new())).run();
        podwork::Worker::new::<r#loop>().setup(|| Value::Null).run();
        podwork::Worker::new::<state>().setup(|| 1).run();
        podwork::Worker::new::<inner::greet>().setup(|| inner::Model).run();
    }
    // The function can still be called.
    assert_eq!(call(3), 3);
}
