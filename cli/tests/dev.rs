//! Tests of `podwork dev` in a terminal: an edit takes effect for the next job, and the queue is kept.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use common::{new_worker, object, podwork};
use expectrl::session::OsSession;
use expectrl::{Captures, ControlCode, Expect, Regex, Session};
use serde_json::{Value, json};

/// The limit on each wait: builds are slow while other builds run in parallel.
const PATIENCE: Duration = Duration::from_mins(5);

/// Waits until the terminal shows a match of `wanted`.
fn see(terminal: &mut OsSession, wanted: &str) -> Captures {
    match terminal.expect(Regex(wanted)) {
        Ok(found) => found,
        Err(error) => panic!("no `{wanted}` in the terminal: {error}"),
    }
}

/// Starts a job that runs in parallel with the test.
fn job(folder: &Path, url: &str, input: &Value) -> Child {
    let data = input.to_string();
    let mut command = podwork(
        folder,
        &[
            "invoke",
            "--stream",
            "--json",
            "--endpoint",
            url,
            "--data",
            &data,
        ],
    );
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn chunks(job: Child) -> Value {
    object(&job.wait_with_output().unwrap())["stream"].take()
}

/// Waits until `waiting` jobs are in the queue and `running` jobs are in progress.
fn until_jobs(url: &str, waiting: u64, running: u64) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    runtime.block_on(async {
        loop {
            let health = client.get(format!("{url}/health")).send().await.unwrap();
            let jobs = &health.json::<Value>().await.unwrap()["jobs"];
            if jobs["inQueue"] == waiting && jobs["inProgress"] == running {
                return;
            }
        }
    });
}

fn edit(source: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(source).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(source, text.replace(from, to)).unwrap();
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn an_edit_takes_effect_for_the_next_job_and_the_queue_is_kept() {
    let (_outside, folder) = new_worker("tokens");
    let source = folder.join("src/main.rs");
    let mut terminal = Session::spawn(podwork(&folder, &["dev", "--port", "0"])).unwrap();
    terminal.set_expect_timeout(Some(PATIENCE));
    let console = see(&mut terminal, r"Console: (http://\S+)/ ");
    let url = String::from_utf8(console.get(1).unwrap().to_vec()).unwrap();
    see(&mut terminal, "dev-1 is running this build");
    see(&mut terminal, r"INFO  . Worker is ready\. worker_id=dev-1");
    assert_eq!(
        chunks(job(&folder, &url, &json!({ "prompt": "a b" }))),
        json!(["a", "b"])
    );

    // A failed build does not affect the worker.
    edit(&source, "yield (*word)", "yield nothing");
    see(
        &mut terminal,
        "Build failed; the previous build keeps running",
    );
    assert_eq!(
        chunks(job(&folder, &url, &json!({ "prompt": "c" }))),
        json!(["c"])
    );

    // One job runs and another waits while the worker is replaced.
    let runs = job(
        &folder,
        &url,
        &json!({ "prompt": "never", "delay_ms": 3_600_000 }),
    );
    until_jobs(&url, 0, 1);
    let waits = job(&folder, &url, &json!({ "prompt": "d" }));
    until_jobs(&url, 1, 1);
    edit(
        &source,
        "yield nothing.to_owned()",
        "yield word.to_uppercase()",
    );
    see(&mut terminal, "dev-1 is finishing its jobs");
    // Ctrl-C cancels the worker's job.
    let pid = rustix::process::Pid::from_child(&runs);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = runs.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(object(&ended)["status"], "CANCELLED");
    see(&mut terminal, "dev-2 is running this build");
    assert_eq!(
        chunks(waits),
        json!(["D"]),
        "the job was kept, and the new worker runs it"
    );

    terminal.send(ControlCode::EndOfText).unwrap();
    see(&mut terminal, "podwork . Stopped");
    let status = terminal.get_process().wait().unwrap();
    assert!(
        format!("{status:?}").contains("Exited(") && format!("{status:?}").ends_with("0)"),
        "{status:?}"
    );
}

/// Returns the schema of the input, as the platform describes it.
fn described(url: &str) -> Value {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let description: Value = runtime.block_on(async {
        let answer = client.get(format!("{url}/openapi.json")).send().await;
        answer.unwrap().json().await.unwrap()
    });
    description["components"]["schemas"]["Input"].clone()
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn the_console_shows_the_schema_of_the_last_build() {
    const TELLING: &str = "
#[podwork::handler(schema)]
async fn tell(input: u32) -> u32 {
    input
}

fn main() -> podwork::ExitCode {
    podwork::run::<tell>()
}
";
    let (_outside, folder) = new_worker("hello");
    let (source, manifest) = (folder.join("src/main.rs"), folder.join("Cargo.toml"));
    edit(
        &manifest,
        "podwork = { ",
        "podwork = { features = [\"schema\"], ",
    );
    fs::write(&source, TELLING).unwrap();
    let mut terminal = Session::spawn(podwork(&folder, &["dev", "--port", "0"])).unwrap();
    terminal.set_expect_timeout(Some(PATIENCE));
    let console = see(&mut terminal, r"Console: (http://\S+)/ ");
    let url = String::from_utf8(console.get(1).unwrap().to_vec()).unwrap();
    see(&mut terminal, "dev-1 is running this build");
    assert_eq!(described(&url)["type"], "integer");

    edit(&source, "input: u32) -> u32", "input: String) -> String");
    see(&mut terminal, "dev-2 is running this build");
    assert_eq!(described(&url)["type"], "string");

    // Other output is not a valid schema.
    edit(
        &source,
        "    podwork::run",
        "    println!(\"hi\");\n    podwork::run",
    );
    see(
        &mut terminal,
        "Does `fn main` print before it starts podwork",
    );
    see(&mut terminal, "dev-3 is running this build");
    assert_eq!(described(&url), Value::Null);

    // A worker without a schema runs like any other.
    edit(&source, "(schema)", "");
    see(&mut terminal, "dev-4 is running this build");
    assert_eq!(described(&url), Value::Null);
    assert_eq!(
        object(&job(&folder, &url, &json!("a")).wait_with_output().unwrap())["output"],
        "a"
    );

    terminal.send(ControlCode::EndOfText).unwrap();
    see(&mut terminal, "podwork . Stopped");
}
