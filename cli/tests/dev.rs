//! `podwork dev` in a terminal: an edit is in the next job's output, and the queue is kept.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]
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

/// Builds are slow where others go on beside them.
const PATIENCE: Duration = Duration::from_mins(5);

/// Waits for this in the terminal.
fn see(terminal: &mut OsSession, wanted: &str) -> Captures {
    match terminal.expect(Regex(wanted)) {
        Ok(found) => found,
        Err(error) => panic!("no `{wanted}` in the terminal: {error}"),
    }
}

/// A job that goes on beside the test.
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

/// Waits until this many jobs wait and run.
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
fn an_edit_is_in_the_next_jobs_output_and_the_queue_is_kept() {
    let (_outside, folder) = new_worker("tokens");
    let source = folder.join("src/main.rs");
    let mut terminal = Session::spawn(podwork(&folder, &["dev", "--port", "0"])).unwrap();
    terminal.set_expect_timeout(Some(PATIENCE));
    let console = see(&mut terminal, r"Console: (http://\S+)/ ");
    let url = String::from_utf8(console.get(1).unwrap().to_vec()).unwrap();
    see(&mut terminal, "dev-1 runs this build");
    see(&mut terminal, "INFO  . Worker dev-1 is ready");
    assert_eq!(
        chunks(job(&folder, &url, &json!({ "prompt": "a b" }))),
        json!(["a", "b"])
    );

    // What does not build leaves the worker alone.
    edit(&source, "yield (*word)", "yield nothing");
    see(&mut terminal, "The build failed. The worker goes on");
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
    see(&mut terminal, "dev-1 ends its jobs first");
    // Ctrl-C ends the job that it has.
    let pid = rustix::process::Pid::from_child(&runs);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = runs.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(object(&ended)["status"], "CANCELLED");
    see(&mut terminal, "dev-2 runs this build");
    assert_eq!(
        chunks(waits),
        json!(["D"]),
        "it was kept, and is run by the new worker"
    );

    terminal.send(ControlCode::EndOfText).unwrap();
    see(&mut terminal, "Ended.");
    let status = terminal.get_process().wait().unwrap();
    assert!(
        format!("{status:?}").contains("Exited(") && format!("{status:?}").ends_with("0)"),
        "{status:?}"
    );
}

/// The input's schema, as the platform describes it.
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
fn what_a_worker_tells_is_shown_as_it_was_built_last() {
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
    see(&mut terminal, "dev-1 runs this build");
    assert_eq!(described(&url)["type"], "integer");

    edit(&source, "input: u32) -> u32", "input: String) -> String");
    see(&mut terminal, "dev-2 runs this build");
    assert_eq!(described(&url)["type"], "string");

    // What else is printed is no schema.
    edit(
        &source,
        "    podwork::run",
        "    println!(\"hi\");\n    podwork::run",
    );
    see(
        &mut terminal,
        "Does its `fn main` print before podwork runs",
    );
    see(&mut terminal, "dev-3 runs this build");
    assert_eq!(described(&url), Value::Null);

    // One that tells nothing is a worker as any other.
    edit(&source, "(schema)", "");
    see(&mut terminal, "dev-4 runs this build");
    assert_eq!(described(&url), Value::Null);
    assert_eq!(
        object(&job(&folder, &url, &json!("a")).wait_with_output().unwrap())["output"],
        "a"
    );

    terminal.send(ControlCode::EndOfText).unwrap();
    see(&mut terminal, "Ended.");
}
