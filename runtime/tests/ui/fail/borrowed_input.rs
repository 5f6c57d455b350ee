#![allow(unused)]

use podwork::handler;
use serde::Deserialize;

#[derive(Deserialize)]
struct Request<'a> {
    text: &'a str,
}

#[handler]
async fn text(text: &str) -> usize {
    text.len()
}

#[handler]
async fn list(list: &[u32]) -> usize {
    list.len()
}

#[handler]
async fn inside(input: Request<'_>) -> usize {
    input.text.len()
}

fn main() {}
