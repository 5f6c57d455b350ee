//! A worker binary, as its user starts it: flags, environment, signals, exit codes.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::process::{Output, Stdio};
use std::time::Duration;

use podwork_platform::Platform;
use podwork_tests::client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A worker binary in an empty folder, with nothing of the platform in its environment.
struct Binary {
    folder: TempDir,
    command: Command,
}

impl Binary {
    fn new(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_podwork-test-worker"));
        command
            .args(args)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .env_remove("CARGO_MANIFEST_DIR");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RUNPOD_")) {
            command.env_remove(name);
        }
        Self { folder, command }
    }

    fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.folder.path().join(name), text).unwrap();
        self
    }

    fn env(mut self, variables: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        self.command.envs(variables);
        self
    }

    async fn output(mut self) -> Output {
        let output = tokio::time::timeout(Duration::from_mins(1), self.command.output());
        output.await.expect("it ends").unwrap()
    }

    /// Expects exit code 1 and one line on standard error; that line.
    async fn complaint(self) -> String {
        let output = self.output().await;
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    fn start(mut self) -> Started {
        let mut child = self.command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Started {
            child,
            lines,
            _folder: self.folder,
        }
    }
}

/// A worker binary that runs.
struct Started {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
}

impl Started {
    /// Waits for a line of its output that contains this.
    async fn line(&mut self, part: &str) -> String {
        let waiting = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("it goes on");
                if line.contains(part) {
                    return line;
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_mins(1), waiting).await;
        found.unwrap_or_else(|_| panic!("no line with {part:?}"))
    }

    async fn signal(&self, signal: &str) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill")
            .args([signal, &id])
            .status()
            .await
            .unwrap();
        assert!(sent.success());
    }

    /// Its exit code, once it has ended by itself.
    async fn code(mut self) -> Option<i32> {
        let ended = tokio::time::timeout(Duration::from_mins(1), self.child.wait()).await;
        ended.expect("it ends").unwrap().code()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_test_input_shows_the_jobs_life() {
    let input = r#"{"input": {"chunks": ["a", {"b": 1}], "error": null}}"#;
    let output = Binary::new(&["stream"])
        .file("test_input.json", input)
        .output()
        .await;
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    let steps = [
        "IN_QUEUE",
        "IN_PROGRESS",
        "chunk     | \"a\"",
        r#"chunk     | {"b":1}"#,
        r#"output    | ["a",{"b":1}]"#,
        "COMPLETED",
        "executionTime",
    ];
    let mut rest = shown.as_str();
    for step in steps {
        let at = rest.find(step).unwrap_or_else(|| panic!("{step}: {shown}"));
        rest = &rest[at + step.len()..];
    }
}

#[tokio::test]
async fn the_flag_wins_over_the_file_and_progress_is_shown() {
    let flag = r#"{"input": {"do": "progress", "values": [{"step": 1}], "value": "done"}}"#;
    let binary = Binary::new(&[
        "--test_input",
        flag,
        "--test_output",
        r#"{"output": "done"}"#,
    ]);
    let output = binary.file("test_input.json", "malformed").output().await;
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.contains(r#"progress  | {"step":1}"#), "{shown}");
}

#[tokio::test]
async fn a_result_that_differs_is_exit_code_1() {
    let flag = r#"{"input": {"do": "echo", "value": 1}}"#;
    let output = Binary::new(&["--test_input", flag, "--test_output", r#"{"output": 2}"#])
        .output()
        .await;
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains(r#"expected {"output":2}"#) && said.contains(r#"got      {"output":1}"#),
        "{said}"
    );
}

#[tokio::test]
async fn a_job_that_fails_or_panics_is_exit_code_1() {
    for (task, words) in [
        (json!({"do": "fail", "message": "no weights"}), "no weights"),
        (json!({"do": "panic", "message": "no memory"}), "no memory"),
        (json!({"do": "echo"}), "missing field `value`"),
    ] {
        let output = Binary::new(&["--test_input", &json!({ "input": task }).to_string()])
            .output()
            .await;
        let shown = text(&output);
        assert_eq!(output.status.code(), Some(1), "{shown}");
        assert!(shown.contains("FAILED") && shown.contains(words), "{shown}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.ends_with("error: the test job ended FAILED\n"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn bad_input_gets_one_clear_line() {
    let missing = Binary::new(&[]).complaint().await;
    assert!(
        missing.contains("test_input.json: not found in this folder; write"),
        "{missing}"
    );
    let malformed = Binary::new(&[])
        .file("test_input.json", "{\"input\": ")
        .complaint()
        .await;
    assert!(
        malformed.contains("test_input.json: EOF while parsing a value at line 1"),
        "{malformed}"
    );
    let without = Binary::new(&[])
        .file("test_input.json", "{\"inputs\": 1}")
        .complaint()
        .await;
    assert!(without.contains("missing field `input`"), "{without}");
    let flag = Binary::new(&["--test_input", "nonsense"]).complaint().await;
    assert!(flag.contains("--test_input: expected ident"), "{flag}");
    let port = Binary::new(&["--rp_serve_api", "--rp_api_port", "many"])
        .complaint()
        .await;
    assert!(
        port.contains("--rp_api_port: `many` is not a port number"),
        "{port}"
    );
}

#[tokio::test]
async fn a_taken_port_gets_one_clear_line() {
    let platform = Platform::builder().start().await.unwrap();
    let port = platform.addr().port().to_string();
    let args = [
        "--rp_serve_api",
        "--rp_api_host",
        "127.0.0.1",
        "--rp_api_port",
        &port,
    ];
    let said = Binary::new(&args).complaint().await;
    assert!(
        said.contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{said}"
    );
    assert!(said.contains("choose another port"), "{said}");
}

#[tokio::test]
async fn a_missing_or_malformed_variable_gets_one_clear_line() {
    let good = |name: &'static str| (name, "http://127.0.0.1:9/job-take/$ID".to_owned());
    let take = good("RUNPOD_WEBHOOK_GET_JOB");
    let missing = Binary::new(&[]).env([take.clone()]).complaint().await;
    assert!(
        missing.contains("RUNPOD_WEBHOOK_POST_OUTPUT is not set"),
        "{missing}"
    );
    let malformed = [("RUNPOD_WEBHOOK_GET_JOB", "127.0.0.1".to_owned())];
    let malformed = Binary::new(&[])
        .env(malformed)
        .env([good("RUNPOD_WEBHOOK_POST_OUTPUT")])
        .complaint()
        .await;
    assert!(
        malformed.contains("RUNPOD_WEBHOOK_GET_JOB is `127.0.0.1`"),
        "{malformed}"
    );
    let level = Binary::new(&[])
        .env([("RUNPOD_LOG_LEVEL", "LOUD".to_owned())])
        .complaint()
        .await;
    assert!(
        level.contains("RUNPOD_LOG_LEVEL is `LOUD`: no such level"),
        "{level}"
    );
    let interval = Binary::new(&[])
        .env([
            take,
            good("RUNPOD_WEBHOOK_POST_OUTPUT"),
            ("RUNPOD_PING_INTERVAL", "soon".to_owned()),
        ])
        .complaint()
        .await;
    assert!(
        interval.contains("RUNPOD_PING_INTERVAL is `soon`"),
        "{interval}"
    );
}

#[tokio::test]
async fn it_serves_the_api_until_it_is_told_to_end() {
    let mut worker = Binary::new(&[
        "--rp_serve_api",
        "--rp_api_host",
        "127.0.0.1",
        "--rp_api_port",
        "0",
    ])
    .start();
    let line = worker.line("Serving `work` at http://").await;
    let url = line
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap()
        .to_owned();
    let http = client();
    let run = |task: Value| {
        let request = http
            .post(format!("{url}/runsync"))
            .json(&json!({ "input": task }));
        async { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    // Input that does not fit fails its own job, with the place, and the worker goes on.
    let failed = run(json!({"do": "large", "bytes": "many"})).await;
    assert_eq!(failed["status"], "FAILED");
    let report: Value = serde_json::from_str(failed["error"].as_str().unwrap()).unwrap();
    assert_eq!(report["error_type"], "invalid_input");
    assert!(
        report["error_message"]
            .as_str()
            .unwrap()
            .contains("expected usize"),
        "{report}"
    );
    let good = run(json!({"do": "echo", "value": [1, null]})).await;
    assert_eq!(
        (&good["status"], &good["output"]),
        (&json!("COMPLETED"), &json!([1, null]))
    );
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
}

#[tokio::test]
async fn a_realtime_port_has_it_serve_instead_of_pulling() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let env = [
        ("RUNPOD_REALTIME_PORT", port.clone()),
        ("RUNPOD_ENDPOINT_ID", "e1".to_owned()),
    ];
    let mut worker = Binary::new(&[]).env(env).start();
    worker.line("is ready").await;
    let url = format!("http://127.0.0.1:{port}");
    let call = |path: &str, body: Value| {
        let request = client().post(format!("{url}{path}")).json(&body);
        async { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    let task = json!({"do": "echo", "value": "now"});
    let answer = call("/e1/realtime", json!({"id": "j", "input": task})).await;
    assert_eq!(answer, json!({"output": "now"}));
    let answer = call("/e1/realtime", json!({"input": task})).await;
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("missing field `id`"),
        "{answer}"
    );
    let answer = call("/run", json!({"input": task})).await;
    assert_eq!(answer["error"], "there is nothing at /run");
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
}

#[tokio::test]
async fn on_the_platform_it_logs_json_and_ends_cleanly_on_sigterm() {
    let platform = Platform::builder().start().await.unwrap();
    let mut worker = Binary::new(&[]).env(platform.worker_env("w1")).start();
    let ready: Value = serde_json::from_str(&worker.line("is ready").await).unwrap();
    assert_eq!(
        (&ready["requestId"], &ready["level"]),
        (&Value::Null, &json!("INFO"))
    );
    let request = json!({"input": {"do": "progress", "values": [1], "value": "late"}});
    let id = platform
        .submit(serde_json::from_value(request).unwrap())
        .unwrap();
    let started: Value = serde_json::from_str(&worker.line("Started.").await).unwrap();
    assert_eq!(
        started,
        json!({"requestId": id, "message": "Started.", "level": "INFO"})
    );
    // It is busy: the job at hand ends first.
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
    assert_eq!(
        platform.status(&id).unwrap().output.unwrap().get(),
        "\"late\""
    );
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let platform = Platform::builder().start().await.unwrap();
    let mut worker = Binary::new(&[]).env(platform.worker_env("w1")).start();
    let request = json!({"input": {"do": "wait"}});
    platform
        .submit(serde_json::from_value(request).unwrap())
        .unwrap();
    worker.line("Started.").await;
    worker.signal("-INT").await;
    worker.line("taking no more jobs").await;
    worker.signal("-INT").await;
    assert_eq!(worker.code().await, Some(1));
}

#[tokio::test]
async fn a_worker_that_is_to_be_replaced_ends_with_0() {
    let platform = Platform::builder().start().await.unwrap();
    let worker = Binary::new(&[]).env(platform.worker_env("w1")).start();
    let request = json!({"input": {"do": "refresh"}});
    let id = platform
        .submit(serde_json::from_value(request).unwrap())
        .unwrap();
    assert_eq!(worker.code().await, Some(0));
    assert_eq!(platform.status(&id).unwrap().output.unwrap().get(), "null");
}
