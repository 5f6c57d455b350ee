//! Tests of a worker binary as a user starts it: flags, environment, signals and exit codes.

use std::process::Output;
use std::time::Duration;

use podwork_platform::Platform;
use podwork_tests::{Answer, Binary, Expected, Faults, Ledger, Recorded, Scripted, client, submit};
use serde_json::{Value, json};

fn worker(args: &[&str]) -> Binary {
    Binary::new(env!("CARGO_BIN_EXE_podwork-test-worker"), args)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_test_input_shows_the_jobs_life() {
    let input = r#"{"input": {"chunks": ["a", {"b": 1}], "error": null}}"#;
    let output = worker(&["stream"])
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
async fn the_log_shows_the_size_and_reason_of_each_batch() {
    let input = r#"{"input": "four"}"#;
    let output = worker(&["batch", "--test_input", input]).output().await;
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.contains("output    | 4"), "{shown}");
    let batch = "Starting a batch. jobs=1 reason=max_wait elapsed";
    let line = shown.lines().find(|line| line.ends_with(batch));
    let job = shown.lines().find(|line| line.starts_with("IN_QUEUE"));
    let id = job.and_then(|line| line.split(' ').next_back()).unwrap();
    assert!(line.is_some_and(|line| line.contains(id)), "{shown}");
}

#[tokio::test]
async fn pages_of_other_sites_cannot_call_the_served_api() {
    let args = [
        "--rp_serve_api",
        "--rp_api_port",
        "0",
        "--rp_api_allow_host",
        "worker",
        "--rp_api_allow_origin=http://localhost:3000",
    ];
    let mut worker = worker(&args).start();
    let url = worker.url("Serving `").await;
    let (_, port) = url.rsplit_once(':').unwrap();
    // `localhost` is both loopback addresses, whichever a client tries first.
    for address in ["127.0.0.1", "[::1]"] {
        if address == "[::1]" && std::net::TcpListener::bind("[::1]:0").is_err() {
            // This machine does not support IPv6.
            continue;
        }
        for (headers, status) in [
            (&[][..], 200),
            (&[("Host", "worker:8000")], 200),
            (&[("Host", "evil.example:8000")], 403),
            (&[("Origin", "http://localhost:3000")], 200),
            (
                &[
                    ("Origin", "https://evil.example"),
                    ("Content-Type", "text/plain"),
                ],
                403,
            ),
        ] {
            let url = format!("http://{address}:{port}/run");
            let mut request = client().post(url).body(r#"{"input": {"do": "wait"}}"#);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{headers:?}");
        }
    }
}

#[tokio::test]
async fn rust_log_sets_levels_where_the_platforms_variables_set_none() {
    let log = async |variables: &[(&'static str, &str)]| {
        let input = r#"{"input": {"do": "echo", "value": 1}}"#;
        let variables = variables
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        let worker = worker(&["--test_input", input]).env(variables);
        let output = worker.output().await;
        assert_eq!(output.status.code(), Some(0));
        text(&output)
    };
    let ready = "Worker is ready. worker_id=local";
    assert!(log(&[]).await.contains(ready));
    assert!(!log(&[("RUST_LOG", "warn")]).await.contains(ready));
    assert!(
        log(&[("RUST_LOG", "warn,podwork=info")])
            .await
            .contains(ready)
    );
    let level = ("RUNPOD_LOG_LEVEL", "ERROR");
    assert!(!log(&[("RUST_LOG", "info"), level]).await.contains(ready));
    let invalid = log(&[("RUST_LOG", "podwork=loud")]).await;
    assert!(
        invalid.contains("Ignoring invalid entries of RUST_LOG") && invalid.contains(ready),
        "{invalid}"
    );
}

#[tokio::test]
async fn the_flag_wins_over_the_file_and_progress_is_shown() {
    let flag = r#"{"input": {"do": "progress", "values": [{"step": 1}], "value": "done"}}"#;
    let binary = worker(&[
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
    let output = worker(&["--test_input", flag, "--test_output", r#"{"output": 2}"#])
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
        let output = worker(&["--test_input", &json!({ "input": task }).to_string()])
            .output()
            .await;
        let shown = text(&output);
        assert_eq!(output.status.code(), Some(1), "{shown}");
        assert!(shown.contains("FAILED") && shown.contains(words), "{shown}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.ends_with("error: the test job did not complete: FAILED\n"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn bad_input_gets_one_clear_line() {
    let missing = worker(&[]).complaint().await;
    assert!(
        missing.contains("test_input.json: not found in this folder; write"),
        "{missing}"
    );
    let malformed = worker(&[])
        .file("test_input.json", "{\"input\": ")
        .complaint()
        .await;
    assert!(
        malformed.contains("test_input.json: EOF while parsing a value at line 1"),
        "{malformed}"
    );
    let without = worker(&[])
        .file("test_input.json", "{\"inputs\": 1}")
        .complaint()
        .await;
    assert!(without.contains("missing field `input`"), "{without}");
    let flag = worker(&["--test_input", "nonsense"]).complaint().await;
    assert!(flag.contains("--test_input: expected ident"), "{flag}");
    let port = worker(&["--rp_serve_api", "--rp_api_port", "many"])
        .complaint()
        .await;
    assert!(
        port.contains("--rp_api_port: expected a port number (0 to 65535), got `many`"),
        "{port}"
    );
}

#[tokio::test]
async fn a_misspelled_member_of_the_test_input_is_named() {
    for (input, member) in [
        (r#"{"model": "bge", "input": 1}"#, "model"),
        (r#"{"input": 1, "polcy": {}}"#, "polcy"),
        (
            r#"{"input": 1, "policy": {"executionTimout": 5000}}"#,
            "executionTimout",
        ),
    ] {
        let said = worker(&["--test_input", input]).complaint().await;
        let expected = format!("error: --test_input: unknown field `{member}`, expected one of");
        assert!(said.starts_with(&expected), "{said}");
    }
}

#[tokio::test]
async fn the_test_input_keeps_its_id_and_may_begin_with_a_byte_order_mark() {
    let input =
        "\u{feff}{\"id\": \"local-test/7\", \"input\": {\"do\": \"echo\", \"value\": 1}}\r\n";
    let output = worker(&[]).file("test_input.json", input).output().await;
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(
        shown.contains("IN_QUEUE    | job local-test/7\n"),
        "{shown}"
    );
    assert!(shown.contains("output    | 1\n"), "{shown}");
    let utf_16 = worker(&[])
        .bytes("test_input.json", b"\xff\xfe{\0}\0")
        .complaint()
        .await;
    assert!(
        utf_16.contains("test_input.json: cannot read the file") && utf_16.contains("UTF-8"),
        "{utf_16}"
    );
}

#[tokio::test]
async fn expected_numbers_are_compared_by_value() {
    let input = r#"{"input": {"do": "echo", "value": {"score": 1, "of": [2.50]}}}"#;
    for (expected, code) in [
        (r#"{"output": {"of": [2.5], "score": 1.0}}"#, 0),
        (r#"{"output": {"of": [2.5], "score": 1.5}}"#, 1),
    ] {
        let output = worker(&["--test_input", input, "--test_output", expected])
            .output()
            .await;
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_closed_standard_output_ends_quietly_and_a_full_one_with_an_error() {
    let input = r#"{"input": {"chunks": ["a", "b", "c"], "error": null}}"#;
    let test_run = || worker(&["stream", "--test_input", input]);
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let output = test_run().stdout(write).output().await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), ""));
    let serve = worker(&["--rp_serve_api", "--rp_api_port", "0"]);
    for program in [test_run(), serve] {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let said = program.stdout(full).complaint().await;
        assert!(
            said.starts_with("error: failed to write to standard output: No space left"),
            "{said}"
        );
    }
    // An error that cannot be shown is still an exit code.
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = worker(&["--test_input", "nonsense"])
        .stderr(full)
        .output()
        .await;
    assert_eq!(output.status.code(), Some(1));
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
    let said = worker(&args).complaint().await;
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
    let missing = worker(&[]).env([take.clone()]).complaint().await;
    assert!(
        missing.contains("RUNPOD_WEBHOOK_POST_OUTPUT is not set"),
        "{missing}"
    );
    let malformed = [("RUNPOD_WEBHOOK_GET_JOB", "127.0.0.1".to_owned())];
    let malformed = worker(&[])
        .env(malformed)
        .env([good("RUNPOD_WEBHOOK_POST_OUTPUT")])
        .complaint()
        .await;
    assert!(
        malformed.contains("RUNPOD_WEBHOOK_GET_JOB is `127.0.0.1`"),
        "{malformed}"
    );
    let level = worker(&[])
        .env([("RUNPOD_LOG_LEVEL", "LOUD".to_owned())])
        .complaint()
        .await;
    assert!(
        level.contains("RUNPOD_LOG_LEVEL is `LOUD`: not a log level"),
        "{level}"
    );
    let interval = worker(&[])
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
async fn it_serves_the_api_until_sigterm() {
    let mut worker = worker(&[
        "--rp_serve_api",
        "--rp_api_host",
        "127.0.0.1",
        "--rp_api_port",
        "0",
    ])
    .start();
    let url = worker.url("Serving `work` at http://").await;
    let http = client();
    let run = |task: Value| {
        let request = http
            .post(format!("{url}/runsync"))
            .json(&json!({ "input": task }));
        async { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    // Invalid input fails only its own job, with its position, and the worker continues.
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
async fn on_the_platform_it_logs_json_and_ends_cleanly_on_sigterm() {
    let platform = Platform::builder().start().await.unwrap();
    let mut worker = worker(&[]).env(platform.worker_env("w1")).start();
    let ready: Value = serde_json::from_str(&worker.line("is ready").await).unwrap();
    assert_eq!(
        (&ready["requestId"], &ready["level"]),
        (&Value::Null, &json!("INFO"))
    );
    let id = submit(
        &platform,
        &json!({"do": "progress", "values": [1], "value": "late"}),
    );
    let started: Value = serde_json::from_str(&worker.line("Started.").await).unwrap();
    assert_eq!(
        started,
        json!({"requestId": id, "message": "Started.", "level": "INFO"})
    );
    // The worker is busy, and finishes the job in flight before it exits.
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
    assert_eq!(
        platform.status(&id).unwrap().output.unwrap().get(),
        "\"late\""
    );
}

#[tokio::test]
async fn signals_in_quick_succession_count_as_one() {
    for pair in [["-TERM", "-TERM"], ["-INT", "-TERM"], ["-INT", "-INT"]] {
        let platform = Platform::builder().start().await.unwrap();
        let mut worker = worker(&[]).env(platform.worker_env("w1")).start();
        let task = json!({"do": "progress", "values": [1], "value": "late"});
        let id = submit(&platform, &task);
        worker.line("Started.").await;
        for signal in pair {
            worker.signal(signal).await;
        }
        assert_eq!(worker.code().await, Some(0), "{pair:?}");
        let output = platform.status(&id).unwrap().output.unwrap();
        assert_eq!(output.get(), "\"late\"");
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let platform = Platform::builder().start().await.unwrap();
    let mut worker = worker(&[]).env(platform.worker_env("w1")).start();
    let _ = submit(&platform, &json!({"do": "wait"}));
    worker.line("Started.").await;
    worker.signal("-INT").await;
    worker.line("Shutting down").await;
    // Repetitions count as the first signal for a while.
    let mut again = tokio::time::interval(Duration::from_millis(200));
    while worker.is_running() {
        worker.signal("-INT").await;
        again.tick().await;
    }
    assert_eq!(worker.code().await, Some(1));
}

#[tokio::test]
async fn a_refreshed_worker_exits_with_code_0() {
    let platform = Platform::builder().start().await.unwrap();
    let worker = worker(&[]).env(platform.worker_env("w1")).start();
    let id = submit(&platform, &json!({"do": "refresh"}));
    assert_eq!(worker.code().await, Some(0));
    assert_eq!(platform.status(&id).unwrap().output.unwrap().get(), "null");
}

#[tokio::test]
async fn an_idle_worker_ends_within_3_seconds_of_sigterm() {
    // The platform holds polls for longer than the test lasts.
    let platform = Scripted::start(|request: &Recorded, _| match request.call() {
        "ping" => Answer::Status(200),
        _ => Answer::Hold,
    })
    .await;
    let worker = worker(&[]).env(platform.env("w1")).start();
    platform
        .until("job-take-batch", |polls| polls.len() == 1)
        .await;
    let told = std::time::Instant::now();
    worker.signal("-TERM").await;
    assert_eq!(worker.code().await, Some(0));
    // Unlike other durations in these tests, this limit is a requirement.
    assert!(
        told.elapsed() < Duration::from_secs(3),
        "{:?}",
        told.elapsed()
    );
}

/// Sends SIGTERM at a random moment of a busy run, 50 times. The worker must finish every job that it fetched.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_in_a_busy_run_loses_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for run in 0..50 {
        let jobs = (0..10_000).map(|n| Expected {
            input: json!({"do": "echo", "value": n}),
            output: json!(n),
            chunks: Vec::new(),
        });
        let faults = Faults {
            failing: random.u8(0..20),
            slow: random.u8(0..50),
            ..Faults::default()
        };
        let ledger = Ledger::start(random.u64(..), faults, jobs).await;
        let quiet = [("RUNPOD_LOG_LEVEL", "ERROR".to_owned())];
        let worker = worker(&[]).env(ledger.env("w1")).env(quiet).start();
        // Wait for the first result: a worker that has just started may not handle signals yet.
        ledger.until_settled(random.usize(1..100)).await;
        worker.signal("-TERM").await;
        assert_eq!(worker.code().await, Some(0));
        let (handed_out, settled) = ledger.counts();
        assert_eq!(handed_out, settled, "run {run}, {faults:?}");
        assert!(handed_out < 10_000, "SIGTERM must arrive in mid-run");
        ledger.assert_sound();
    }
}
