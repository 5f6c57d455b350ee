async fn greet(name: String) -> String {
    name
}

fn main() -> podwork::ExitCode {
    podwork::run::<greet>()
}
