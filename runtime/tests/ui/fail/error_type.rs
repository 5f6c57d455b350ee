#![allow(unused)]

use podwork::handler;

struct Failed;

#[handler]
async fn fails() -> Result<u32, Failed> {
    Err(Failed)
}

fn main() {}
