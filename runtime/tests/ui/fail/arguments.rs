#![allow(unused)]

use podwork::handler;

#[handler(join)]
async fn one() {}

#[handler(stream, iterator)]
fn two() -> Vec<u32> {
    Vec::new()
}

#[handler(stream)]
fn three() -> impl Iterator<Item = u32> {
    0..3
}

fn main() {}
