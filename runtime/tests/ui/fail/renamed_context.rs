#![allow(unused)]

use podwork::{Context as Job, handler};

#[handler]
async fn echo(text: String, job: Job) -> String {
    job.progress("echoing");
    text
}

fn main() {}
