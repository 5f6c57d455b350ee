use podwork::{Batch, handler};

const NONE: usize = 0;

#[handler(weight = String::len, max_weight = NONE)]
fn lengths(texts: Batch<String>) -> Vec<usize> {
    texts.iter().map(String::len).collect()
}

fn main() {
    podwork::run::<lengths>();
}
