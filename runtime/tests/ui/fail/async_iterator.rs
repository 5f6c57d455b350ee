#![allow(unused)]

use podwork::handler;

#[handler]
async fn count(upto: u32) -> impl Iterator<Item = u32> {
    1..=upto
}

fn main() {}
