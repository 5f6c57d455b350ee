#![allow(unused)]

use podwork::{Stream, handler};

#[handler]
fn count(upto: u32) -> impl Stream<Item = u32> {
    for n in 1..=upto {
        yield n;
    }
}

fn main() -> podwork::ExitCode {
    podwork::run::<count>()
}
