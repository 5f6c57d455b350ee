use podwork::{Worker, handler};

struct Model;

#[handler]
async fn caption(prompt: String, _model: &Model) -> String {
    prompt
}

fn main() -> podwork::ExitCode {
    Worker::new::<caption>().concurrency(4).run()
}
