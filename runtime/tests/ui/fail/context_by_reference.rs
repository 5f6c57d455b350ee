#![allow(unused)]

use podwork::{Context, handler};

#[handler]
async fn id(cx: &Context) -> String {
    cx.id().to_owned()
}

fn main() {}
