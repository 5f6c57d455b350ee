#![allow(unused)]

use std::rc::Rc;

use podwork::handler;

struct Model(Rc<String>);

#[handler]
fn run(model: &Model) -> usize {
    model.0.len()
}

fn main() {}
