#![allow(unused)]

use podwork::{Batch, Result, Stream, handler, stream};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
struct Undescribed {
    prompt: String,
}

#[handler(schema)]
async fn input(input: Undescribed) -> String {
    input.prompt
}

#[handler(schema)]
fn output(prompt: String) -> Undescribed {
    Undescribed { prompt }
}

#[handler(schema)]
fn fallible(prompt: String) -> Result<Undescribed> {
    Ok(Undescribed { prompt })
}

#[handler(schema)]
fn item(prompt: String) -> impl Stream<Item = Undescribed> {
    stream! { yield Undescribed { prompt } }
}

#[handler(schema)]
fn entry(prompts: Batch<Undescribed>) -> Vec<Result<Undescribed>> {
    prompts.into_iter().map(Ok).collect()
}

#[handler]
fn silent(prompt: String) -> String {
    prompt
}

fn main() {
    podwork::schema::<silent>();
}
