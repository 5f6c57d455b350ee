use podwork::{Worker, handler};

#[handler]
async fn greet(name: String) -> String {
    name
}

fn main() -> podwork::ExitCode {
    Worker::new(greet).run()
}
