use podwork::{Worker, handler};

#[handler]
async fn one(text: String) -> usize {
    text.len()
}

fn main() {
    Worker::new::<one>().max_batch(16).run();
}
