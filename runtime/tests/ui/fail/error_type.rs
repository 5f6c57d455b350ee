#![allow(unused)]

use podwork::handler;

struct Failed;

#[handler]
async fn fails() -> Result<u32, Failed> {
    Err(Failed)
}

#[handler]
async fn boxed() -> Result<u32, Box<dyn std::error::Error>> {
    Ok(1)
}

fn main() {}
