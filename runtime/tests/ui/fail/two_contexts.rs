#![allow(unused)]

use podwork::{Context, handler};

#[handler]
fn twice(one: Context, other: podwork::Context) {}

fn main() {}
