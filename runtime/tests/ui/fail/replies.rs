#![allow(unused)]

use podwork::{Batch, HandlerError, Reply, Result, handler, stream};

struct Caption {
    text: String,
}

type Answer = Reply<String>;

#[handler]
async fn aliased() -> Answer {
    Reply::once("text".to_owned())
}

#[handler]
async fn no_output() -> Reply<Caption> {
    Reply::once(Caption { text: String::new() })
}

#[handler]
fn no_chunk() -> Result<Reply<u32, Caption>> {
    Ok(Reply::once(1))
}

#[handler]
async fn optional() -> Option<Reply<u32>> {
    None
}

#[handler]
fn one_for_all(texts: Batch<String>) -> Reply<usize> {
    Reply::once(texts.len())
}

#[handler]
fn one_for_each(texts: Batch<String>) -> Vec<Reply<usize>> {
    texts.iter().map(|text| Reply::once(text.len())).collect()
}

mod own {
    use podwork::handler;

    #[derive(serde::Serialize)]
    pub struct Reply<T> {
        inner: T,
    }

    #[handler]
    pub async fn another() -> Reply<u32> {
        Reply { inner: 1 }
    }
}

fn main() {}
