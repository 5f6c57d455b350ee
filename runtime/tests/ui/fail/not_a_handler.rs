#![allow(unused)]

use podwork::handler;

struct Model;

struct Plain;

#[handler]
async fn caption(prompt: String, model: &Model) -> String {
    prompt
}

fn main() {
    podwork::run::<Plain>();
    podwork::run::<caption>();
}
