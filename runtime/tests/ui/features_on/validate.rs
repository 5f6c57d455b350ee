#![allow(unused)]

use podwork::{Batch, Context, handler};
use serde::Deserialize;

#[derive(Deserialize)]
struct Unchecked {
    prompt: String,
}

#[handler(validate)]
async fn input(input: Unchecked) -> String {
    input.prompt
}

#[handler(validate)]
fn item(inputs: Batch<Unchecked>) -> Vec<usize> {
    inputs.iter().map(|input| input.prompt.len()).collect()
}

#[handler(validate)]
fn nothing(cx: Context) -> String {
    cx.id().to_owned()
}

/// The allowed values, which the input does not contain.
struct Allowed(u32);

#[derive(Deserialize, garde::Validate)]
#[garde(context(Allowed))]
struct OfAContext {
    #[garde(skip)]
    steps: u32,
}

#[handler(validate)]
async fn of_a_context(input: OfAContext) -> u32 {
    input.steps
}

fn main() {}
