#![allow(unused)]

use std::pin::Pin;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt as _};
use podwork::{Result, Stream, handler};

#[handler]
fn alias(n: u32) -> BoxStream<'static, u32> {
    futures::stream::iter(0..n).boxed()
}

#[handler]
fn pinned(n: u32) -> Pin<Box<dyn Stream<Item = Result<u32>> + Send>> {
    Box::pin(futures::stream::iter((0..n).map(Ok)))
}

#[handler]
fn iterator(n: u32) -> Box<dyn Iterator<Item = u32>> {
    Box::new(0..n)
}

#[handler]
async fn in_a_result(n: u32) -> Result<BoxStream<'static, u32>> {
    Ok(futures::stream::iter(0..n).boxed())
}

#[handler]
fn later(n: u32) -> BoxFuture<'static, u32> {
    Box::pin(async move { n })
}

#[handler]
fn list_of_streams(n: u32) -> Vec<impl Stream<Item = u32>> {
    vec![futures::stream::iter(0..n)]
}

#[handler]
fn named(n: u32) -> std::vec::IntoIter<u32> {
    vec![n].into_iter()
}

fn main() {}
