//! A stream without async: the handler returns an iterator, which runs on its own thread. Run it with
//! `cargo run -p counter`.

use podwork::handler;
use serde::Deserialize;

#[derive(Deserialize)]
struct Count {
    upto: u32,
}

#[handler]
fn count(input: Count) -> impl Iterator<Item = u32> {
    1..=input.upto
}

fn main() -> podwork::ExitCode {
    podwork::run::<count>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwork::Worker;
    use podwork::testing::TestWorker;
    use serde_json::json;

    #[test]
    fn counts_from_one() {
        assert!(count(Count { upto: 3 }).eq([1, 2, 3]));
    }

    #[tokio::test]
    async fn a_job_goes_through_a_whole_worker() {
        let worker = TestWorker::start(Worker::new::<count>()).await.unwrap();
        let job = worker.run(json!({ "upto": 2 })).await.unwrap();
        assert_eq!(job.outputs, [json!(1), json!(2)]);
        worker.stop().await.unwrap();
    }
}
