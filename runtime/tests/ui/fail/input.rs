#![allow(unused)]

use podwork::handler;

struct Request {
    prompt: String,
}

#[handler]
async fn caption(input: Request) -> String {
    input.prompt
}

fn main() {}
