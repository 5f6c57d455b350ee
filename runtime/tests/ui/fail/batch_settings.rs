use podwork::{Batch, handler};

#[handler(max_batch = 16, max_wait = "5ms")]
async fn one(text: String) -> usize {
    text.len()
}

#[handler(max_batch = 0)]
fn none(texts: Batch<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

#[handler(max_wait = 5)]
fn without_unit(texts: Batch<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

#[handler(max_wait = "5 minutes")]
fn other_unit(texts: Batch<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

fn main() {}
