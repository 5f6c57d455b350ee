//! A worker that runs its jobs in batches, because a call of the model takes about the same time for one text as for
//! many. Run it with `cargo run -p embedder`.

use std::thread;
use std::time::Duration;

use podwork::{Batch, ExitCode, Result, Worker, handler};
use serde::{Deserialize, Serialize};

/// The number of elements of a vector.
const SIZE: usize = 8;

/// Counts words by their hash. It stands in for a model on a GPU.
struct Model {
    /// The time of a call, for any number of texts.
    call: Duration,
}

impl Model {
    fn load() -> Self {
        Self {
            call: Duration::from_millis(20),
        }
    }

    fn embed(&self, texts: &[&str]) -> Vec<[f32; SIZE]> {
        thread::sleep(self.call);
        texts.iter().map(|text| Self::vector(text)).collect()
    }

    fn vector(text: &str) -> [f32; SIZE] {
        let mut vector = [0.0; SIZE];
        for word in text.split_whitespace() {
            let hash = word.bytes().fold(7, |hash: usize, byte| {
                hash.wrapping_mul(31).wrapping_add(byte.into())
            });
            vector[hash % SIZE] += 1.0;
        }
        let length = vector.iter().map(|part| part * part).sum::<f32>().sqrt();
        vector.map(|part| part / length)
    }
}

#[derive(Deserialize)]
struct Prompt {
    text: String,
}

#[derive(Debug, PartialEq, Serialize)]
struct Embedding {
    vector: [f32; SIZE],
}

#[handler(max_batch = 16, max_wait = "5ms")]
fn embed(prompts: Batch<Prompt>, model: &Model) -> Vec<Result<Embedding>> {
    for cx in prompts.contexts() {
        cx.progress("embedding");
    }
    let texts: Vec<&str> = prompts.iter().map(|prompt| prompt.text.trim()).collect();
    let vectors = model.embed(&texts);
    let result = |(text, vector): (&&str, _)| {
        if text.is_empty() {
            return Err("a text without words cannot be embedded".into());
        }
        Ok(Embedding { vector })
    };
    texts.iter().zip(vectors).map(result).collect()
}

fn main() -> ExitCode {
    Worker::new::<embed>().setup(Model::load).run()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwork::testing::TestWorker;
    use serde_json::json;

    #[test]
    fn each_text_has_its_own_vector() {
        let prompts = ["to be", "", "be to"].map(|text| Prompt { text: text.into() });
        let results = embed(prompts.into_iter().collect(), &Model::load());
        let [Ok(first), Err(error), Ok(last)] = &results[..] else {
            panic!("{results:?}");
        };
        assert_eq!(first, last, "the order of words does not matter");
        assert!(error.message().contains("without words"), "{error}");
    }

    #[tokio::test]
    async fn a_job_goes_through_a_whole_worker() {
        let worker = TestWorker::start(Worker::new::<embed>().setup(Model::load))
            .await
            .unwrap();
        let job = worker.run(json!({ "text": "be" })).await.unwrap();
        let output = job.result.unwrap();
        assert_eq!(output["vector"].as_array().unwrap().len(), SIZE);
        worker.stop().await.unwrap();
    }
}
