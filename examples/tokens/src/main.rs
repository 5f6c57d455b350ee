//! A worker that streams: it yields each word as a chunk as soon as the word is ready, and reports the number of words
//! as progress. Run it with `cargo run -p tokens`.

use std::time::Duration;

use podwork::{Context, Stream, handler, stream};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Prompt {
    prompt: String,
    /// The time that a model would need for a word, in milliseconds. Default: 0.
    #[serde(default)]
    delay_ms: u64,
}

#[handler]
fn tokens(input: Prompt, cx: Context) -> impl Stream<Item = String> {
    stream! {
        let words: Vec<&str> = input.prompt.split_whitespace().collect();
        for (made, word) in words.iter().enumerate() {
            tokio::time::sleep(Duration::from_millis(input.delay_ms)).await;
            cx.progress(json!({ "tokens": made + 1, "of": words.len() }));
            yield (*word).to_owned();
        }
    }
}

fn main() -> podwork::ExitCode {
    podwork::run::<tokens>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwork::Worker;
    use podwork::testing::{TestJob, TestWorker};

    #[tokio::test]
    async fn each_word_is_a_chunk() {
        let job = TestJob::new(json!({ "prompt": "to be" }))
            .run::<tokens>()
            .await;
        assert_eq!(job.outputs, [json!("to"), json!("be")]);
        assert_eq!(job.progress.last(), Some(&json!({ "tokens": 2, "of": 2 })));
    }

    #[tokio::test]
    async fn a_job_goes_through_a_whole_worker() {
        let worker = TestWorker::start(Worker::new::<tokens>()).await.unwrap();
        let job = worker.run(json!({ "prompt": "or not" })).await.unwrap();
        assert_eq!(job.outputs, [json!("or"), json!("not")]);
        worker.stop().await.unwrap();
    }
}
