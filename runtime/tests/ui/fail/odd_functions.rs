#![allow(unused)]

use podwork::handler;

#[handler]
unsafe fn risky(input: u32) -> u32 {
    input
}

#[handler]
extern "C" fn foreign(input: u32) -> u32 {
    input
}

#[handler]
fn sometimes(#[cfg(unix)] input: u32) -> u32 {
    1
}

fn main() {}
