use podwork::handler;

#[handler(schema)]
fn told(number: u32) -> u32 {
    number
}

#[handler(max_batch = 4, validate)]
fn checked(numbers: podwork::Batch<u32>) -> Vec<u32> {
    numbers.into_iter().collect()
}

fn main() {}
