#![allow(unused)]

use podwork::{Batch, Context, handler};

struct Model;

#[handler]
fn slice(texts: Batch<String>, cxs: &[Context]) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

#[handler]
fn list(cxs: Vec<Context>, texts: Batch<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

#[handler]
fn one(texts: Batch<String>, cx: &Context) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

#[handler]
fn state(texts: Batch<String>, model: Model) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

#[handler]
fn by_reference(texts: &Batch<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

#[handler]
fn without_batch(text: String, cxs: &[Context]) -> usize {
    text.len()
}

#[handler]
fn inputs(texts: &[String]) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

fn main() {}
