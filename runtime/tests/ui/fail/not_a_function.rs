#![allow(unused)]

use podwork::handler;

#[handler]
struct Greet {
    name: String,
}

fn main() {}
