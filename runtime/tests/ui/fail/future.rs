#![allow(unused)]

use std::future::Future;

use podwork::handler;

#[handler]
fn later(n: u32) -> impl Future<Output = u32> {
    async move { n }
}

fn main() {}
