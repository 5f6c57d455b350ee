#![allow(unused)]

use podwork::handler;

struct Model;
struct Vocabulary;

#[handler]
async fn caption(model: &Model, vocabulary: &Vocabulary) -> String {
    String::new()
}

fn main() -> podwork::ExitCode {
    podwork::Worker::new::<caption>().setup(|| Model).run()
}
