#![allow(unused)]

use podwork::handler;

struct Model;

impl Model {
    #[handler]
    async fn caption(&self, prompt: String) -> String {
        prompt
    }
}

fn main() {}
