use podwork::{Batch, Context, handler};

#[handler]
fn with_context(texts: Batch<String>, cx: Context) -> Vec<usize> {
    cx.progress(1);
    texts.iter().map(String::len).collect()
}

#[handler]
fn with_input(texts: Batch<String>, factor: usize) -> Vec<usize> {
    texts.iter().map(|text| factor * text.len()).collect()
}

#[handler]
fn borrowed(texts: Batch<&str>) -> Vec<usize> {
    texts.iter().map(|text| text.len()).collect()
}

fn main() {}
