use podwork::handler;

#[handler(batch = 16)]
fn setting(text: String) -> usize {
    text.len()
}

#[handler(podwork::max_batch = 16)]
fn path(text: String) -> usize {
    text.len()
}

#[handler(streams)]
fn word(text: String) -> usize {
    text.len()
}

fn main() {}
