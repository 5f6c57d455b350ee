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

#[handler(timeout = 30)]
fn of_the_worker(text: String) -> usize {
    text.len()
}

#[handler(retries = 3)]
fn of_nobody(text: String) -> usize {
    text.len()
}

#[handler(stream = true)]
fn value(text: String) -> usize {
    text.len()
}

#[handler(max_batch(8))]
fn list(text: String) -> usize {
    text.len()
}

#[handler("stream")]
fn text(text: String) -> usize {
    text.len()
}

#[handler(colour = "red")]
fn unknown(text: String) -> usize {
    text.len()
}

fn main() {}
