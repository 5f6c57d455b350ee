#![allow(unused)]

use podwork::handler;

struct Counter(u64);

#[handler]
fn count(counter: &mut Counter) -> u64 {
    counter.0 += 1;
    counter.0
}

fn main() {}
