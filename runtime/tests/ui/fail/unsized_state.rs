#![allow(unused)]

use podwork::handler;

trait Model: Send + Sync {}

#[handler]
fn run(model: &dyn Model) {}

fn main() {}
