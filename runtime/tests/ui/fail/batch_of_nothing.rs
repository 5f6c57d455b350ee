use podwork::{Batch, handler};

const NONE: usize = 0;

#[handler(max_batch = NONE)]
fn lengths(texts: Batch<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

fn main() {
    podwork::run::<lengths>();
}
