use podwork::{Batch, handler};

#[handler(max_batch = 4, max_batch = 64)]
fn lengths(texts: Batch<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

#[handler(iterator, join, iterator)]
fn words(text: String) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn main() {}
