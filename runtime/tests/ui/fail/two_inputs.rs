#![allow(unused)]

use podwork::handler;

#[handler]
async fn add(left: u32, right: u32) -> u32 {
    left + right
}

fn main() -> podwork::ExitCode {
    podwork::run::<add>()
}
