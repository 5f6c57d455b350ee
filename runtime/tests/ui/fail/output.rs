#![allow(unused)]

use podwork::{Result, Stream, handler, stream};

struct Caption {
    text: String,
}

#[handler]
async fn plain() -> Caption {
    Caption { text: String::new() }
}

#[handler]
fn fallible() -> Result<Caption> {
    Ok(Caption { text: String::new() })
}

#[handler]
fn items() -> impl Stream<Item = Caption> {
    stream! { yield Caption { text: String::new() } }
}

#[handler]
fn fallible_items() -> impl Iterator<Item = Result<Caption>> {
    std::iter::once(Ok(Caption { text: String::new() }))
}

fn main() {}
