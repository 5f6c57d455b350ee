#![allow(unused)]

use podwork::handler;

struct Model<'a>(&'a str);

#[handler]
fn run<'a>(model: &Model<'a>) -> usize {
    model.0.len()
}

fn main() {}
