#[podwork::handler(join)]
async fn one(prompt: String) -> String {
    prompt
}

fn main() {}
