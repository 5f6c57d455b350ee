//! The smallest worker, with a typed input and a typed output. Run it with `cargo run -p hello`.

use podwork::handler;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Greet {
    name: String,
}

#[derive(Serialize)]
struct Greeting {
    text: String,
}

#[handler]
async fn greet(input: Greet) -> Greeting {
    Greeting {
        text: format!("Hello, {}!", input.name),
    }
}

fn main() -> podwork::ExitCode {
    podwork::run::<greet>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwork::Worker;
    use podwork::testing::TestWorker;
    use serde_json::json;

    #[tokio::test]
    async fn greets_by_name() {
        let greeting = greet(Greet {
            name: "Ada".to_owned(),
        })
        .await;
        assert_eq!(greeting.text, "Hello, Ada!");
    }

    #[tokio::test]
    async fn a_job_goes_through_a_whole_worker() {
        let worker = TestWorker::start(Worker::new::<greet>()).await.unwrap();
        let job = worker.run(json!({ "name": "Ada" })).await.unwrap();
        assert_eq!(job.result.unwrap(), json!({ "text": "Hello, Ada!" }));
        worker.stop().await.unwrap();
    }
}
