use podwork::{Batch, Result, Stream, handler, stream};

#[handler]
async fn one_for_all(texts: Batch<String>) -> usize {
    texts.len()
}

#[handler]
fn one_for_all_or_an_error(texts: Batch<String>) -> Result<usize> {
    Ok(texts.len())
}

#[handler]
async fn nothing(_texts: Batch<String>) {}

#[handler]
fn chunks(texts: Batch<String>) -> impl Stream<Item = String> {
    stream! {
        for text in texts {
            yield text;
        }
    }
}

fn main() {}
