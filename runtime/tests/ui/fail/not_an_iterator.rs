#![allow(unused)]

use podwork::handler;

#[handler(iterator)]
fn number() -> u32 {
    1
}

fn main() {}
