//! A generator without async: any iterator, run on a thread of its own. Run it with `cargo run -p counter`.

use podwork::handler;
use serde::Deserialize;

#[derive(Deserialize)]
struct Count {
    upto: u32,
}

#[handler]
fn count(input: Count) -> impl Iterator<Item = u32> {
    1..=input.upto
}

fn main() -> podwork::ExitCode {
    podwork::run::<count>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_one() {
        assert!(count(Count { upto: 3 }).eq([1, 2, 3]));
    }
}
