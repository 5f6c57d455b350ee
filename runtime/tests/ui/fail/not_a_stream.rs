#![allow(unused)]

use podwork::handler;

#[handler(stream)]
fn list() -> Vec<u32> {
    Vec::new()
}

#[handler(iterator)]
fn number() -> u32 {
    1
}

fn main() {}
