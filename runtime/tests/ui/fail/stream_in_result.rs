#![allow(unused)]

use podwork::{Result, Stream, handler, stream};

#[handler]
async fn count(upto: u32) -> Result<impl Stream<Item = u32>> {
    Ok(stream! {
        for n in 1..=upto {
            yield n;
        }
    })
}

fn main() {}
