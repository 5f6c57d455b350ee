//! A worker whose input is a file: the client sends a URL, and the worker downloads the text and counts its words. Run
//! it with `cargo run -p wordcount`. Its test job contains the text in a data URL, so it needs no network.

use std::fs::File;
use std::io::{BufRead as _, BufReader};

use podwork::files::{Downloads, RemoteFile};
use podwork::{Context, Result, handler};
use serde::{Deserialize, Serialize};

/// The maximum size of a text, in bytes.
const MAX_BYTES: u64 = 100 * 1024 * 1024;

#[derive(Deserialize)]
struct Request {
    text: RemoteFile,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Counts {
    lines: usize,
    words: usize,
}

#[handler]
fn count(request: Request, cx: Context) -> Result<Counts> {
    let path = Downloads::new(&cx)
        .max_bytes(MAX_BYTES)
        .progress(|so_far| cx.progress(so_far))
        .fetch_blocking(&request.text)?;
    let mut counts = Counts::default();
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line.map_err(|error| format!("the file is not a text: {error}"))?;
        counts.lines += 1;
        counts.words += line.split_whitespace().count();
    }
    Ok(counts)
}

fn main() -> podwork::ExitCode {
    podwork::run::<count>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podwork::Worker;
    use podwork::testing::{TestJob, TestWorker};
    use serde_json::json;

    #[tokio::test]
    async fn counts_lines_and_words() {
        let input = json!({ "text": "data:text/plain,to%20be%0Aor%20not%20to%20be" });
        let job = TestJob::new(input).run::<count>().await;
        assert_eq!(job.result.unwrap(), json!({ "lines": 2, "words": 6 }));
    }

    #[tokio::test]
    async fn a_job_goes_through_a_whole_worker() {
        let worker = TestWorker::start(Worker::new::<count>()).await.unwrap();
        let input = json!({ "text": "data:application/octet-stream;base64,/w==" });
        let job = worker.run(input).await.unwrap();
        let error = job.result.unwrap_err();
        assert!(error.message().contains("not a text"), "{error}");

        let input = json!({ "text": "ftp://example.com/a.txt" });
        let job = worker.run(input).await.unwrap();
        assert_eq!(job.result.unwrap_err().kind(), "invalid_input");
        worker.stop().await.unwrap();
    }
}
