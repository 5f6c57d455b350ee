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

#[handler(max_weight = 0, weight = String::len)]
fn weightless(texts: Batch<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

#[handler(weight = String::len)]
fn without_limit(texts: Batch<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

#[handler(max_weight = 100, weight = Vec::<u8>::len)]
fn of_another_type(texts: Batch<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

#[handler(max_weight = 100, weight = String::len)]
async fn alone(text: String) -> usize {
    text.len()
}

fn main() {}
