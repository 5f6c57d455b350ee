#![allow(unused)]

use podwork::{Input, Output, handler};

#[handler]
async fn echo<T: Input + Output + Send>(input: T) -> T {
    input
}

#[handler]
async fn show(input: impl Input + ToString + Send) -> String {
    input.to_string()
}

#[handler]
fn zeros<const N: usize>() -> Vec<u8> {
    vec![0; N]
}

fn main() {}
