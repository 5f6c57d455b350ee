//! Tests of `podwork dev` in a terminal: an edit takes effect for the next job, and the queue is kept.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{new_worker, object, podwork};
use expectrl::session::OsSession;
use expectrl::{Captures, ControlCode, Expect, Regex, Session};
use notify::{RecursiveMode, Watcher as _};
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

/// Returns the JSON at a path of the platform.
fn get(url: &str, path: &str) -> Value {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    runtime.block_on(async {
        let answer = client.get(format!("{url}{path}")).send().await;
        answer.unwrap().json().await.unwrap()
    })
}

/// Waits until a condition is true.
fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_true() {
        assert!(
            started.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        std::thread::yield_now();
    }
}

/// Waits until `waiting` jobs are in the queue and `running` jobs are in progress.
fn until_jobs(url: &str, waiting: u64, running: u64) {
    until("the jobs", || {
        let jobs = &get(url, "/health")["jobs"];
        jobs["inQueue"] == waiting && jobs["inProgress"] == running
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
    see(&mut terminal, "dev-1-[0-9a-f]{6} is running this build");
    see(&mut terminal, r"INFO  . Worker is ready\. worker_id=dev-1-");
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
    see(&mut terminal, "dev-1-[0-9a-f]{6} is finishing its jobs");
    // Ctrl-C cancels the worker's job.
    let pid = rustix::process::Pid::from_child(&runs);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = runs.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(object(&ended)["status"], "CANCELLED");
    see(&mut terminal, "dev-2-[0-9a-f]{6} is running this build");
    assert_eq!(
        chunks(waits),
        json!(["D"]),
        "the job was kept, and the new worker runs it"
    );
    // The replaced worker has left the platform.
    let workers = &get(&url, "/health")["workers"];
    let known: u64 = workers
        .as_object()
        .unwrap()
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!((known, &workers["ready"]), (2, &json!(1)), "{workers}");

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
    let description = get(url, "/openapi.json");
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
    see(&mut terminal, "dev-1-[0-9a-f]{6} is running this build");
    assert_eq!(described(&url)["type"], "integer");

    edit(&source, "input: u32) -> u32", "input: String) -> String");
    see(&mut terminal, "dev-2-[0-9a-f]{6} is running this build");
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
    see(&mut terminal, "dev-3-[0-9a-f]{6} is running this build");
    assert_eq!(described(&url), Value::Null);

    // A worker without a schema runs like any other.
    edit(&source, "(schema)", "");
    see(&mut terminal, "dev-4-[0-9a-f]{6} is running this build");
    assert_eq!(described(&url), Value::Null);
    assert_eq!(
        object(&job(&folder, &url, &json!("a")).wait_with_output().unwrap())["output"],
        "a"
    );

    terminal.send(ControlCode::EndOfText).unwrap();
    see(&mut terminal, "podwork . Stopped");
}

/// A worker that writes to its folder, and whose build script names no sources.
const WRITING: &str = r#"
mod target;

#[podwork::handler]
fn write(input: String) -> podwork::Result<String> {
    println!("a line of {input}");
    std::fs::write(format!("{input}.txt"), &input)?;
    let variable = |name| std::env::var(name).unwrap_or_default();
    Ok(format!("{} {} {}", target::TEXT, variable("FIRST"), variable("SECOND")))
}

fn main() -> podwork::ExitCode {
    if std::env::args().any(|flag| flag == "--rp_schema") && std::env::var_os("SLOW").is_some() {
        loop {
            std::thread::park();
        }
    }
    podwork::run::<write>()
}
"#;

/// Returns the processes of the worker's binary, and cargo's.
fn workers(folder: &Path) -> Vec<u32> {
    let name = folder.file_name().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let running = processes.filter(|process| {
        let program = fs::read_link(process.path().join("exe"));
        let here = fs::read_link(process.path().join("cwd"));
        program.is_ok_and(|path| path.file_name() == Some(name))
            && here.is_ok_and(|here| here == folder)
    });
    running
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect()
}

/// Starts `podwork dev` with its output in a file of the worker's folder.
fn start_into(log: &Path, args: &[&str]) -> Child {
    let folder = log.parent().unwrap();
    let file = fs::File::create(log).unwrap();
    let mut command = podwork(folder, &[&["dev", "--port", "0"], args].concat());
    command
        .stderr(file.try_clone().unwrap())
        .stdout(file)
        .env_remove("FIRST")
        .env_remove("SECOND");
    command.spawn().unwrap()
}

/// Waits until a log contains a text, and returns the log.
fn logged(log: &Path, wanted: &str) -> String {
    let (sender, events) = std::sync::mpsc::channel();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reads of this test are events, too.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            let _ = sender.send(());
        }
    });
    let mut watcher = watcher.unwrap();
    watcher.watch(log, RecursiveMode::NonRecursive).unwrap();
    loop {
        let text = fs::read_to_string(log).unwrap();
        if text.contains(wanted) {
            return text;
        }
        let written = events.recv_timeout(PATIENCE);
        written.unwrap_or_else(|_| panic!("no `{wanted}` in the log: {text}"));
    }
}

fn url_in(log: &str) -> String {
    let (_, after) = log.split_once("Console: ").unwrap();
    after.split("/ ").next().unwrap().to_owned()
}

fn signal(process: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(process), signal).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn only_sources_cause_builds_and_a_killed_dev_leaves_no_worker() {
    // Another template than in other tests, because they share the target directory.
    let (_outside, folder) = new_worker("iterator");
    let folder = folder.canonicalize().unwrap();
    fs::write(folder.join("src/main.rs"), WRITING).unwrap();
    fs::write(folder.join("build.rs"), "fn main() {}").unwrap();
    fs::create_dir(folder.join("src/target")).unwrap();
    let module = folder.join("src/target/mod.rs");
    fs::write(&module, "pub const TEXT: &str = \"one\";").unwrap();
    fs::write(folder.join(".env"), "FIRST=f\nSECOND='s s'\n").unwrap();
    let output = |url: &str, name: &str| {
        let done = job(&folder, url, &json!(name)).wait_with_output().unwrap();
        object(&done)["output"].clone()
    };

    let log = folder.join("log.txt");
    let dev = start_into(&log, &[]);
    let url = url_in(&logged(&log, "is running this build"));
    assert_eq!(output(&url, "a"), "one f s s");
    edit(&module, "one", "two");
    logged(&log, "dev-2-");
    assert_eq!(output(&url, "b"), "two f s s");
    // A change of the variables replaces the worker.
    fs::write(folder.join(".env"), "FIRST=g\nSLOW=1\n").unwrap();
    logged(&log, "the worker did not answer `--rp_schema`");
    let text = logged(&log, "dev-3-");
    assert_eq!(output(&url, "c"), "two g ");
    assert_eq!(text.matches("Building \u{2026}").count(), 3, "{text}");

    assert_eq!(workers(&folder).len(), 1);
    signal(&dev, rustix::process::Signal::KILL);
    dev.wait_with_output().unwrap();
    until("the worker ends", || workers(&folder).is_empty());

    // Without events; other ids than before.
    let log = folder.join("second.txt");
    fs::write(folder.join("own.env"), "SECOND=own\n").unwrap();
    let dev = start_into(&log, &["--poll", "--env-file", "own.env"]);
    let second = logged(&log, "is running this build");
    let id = |text: &str| {
        text.split(" is running")
            .next()
            .unwrap()
            .split("dev-1-")
            .nth(1)
            .unwrap()
            .to_owned()
    };
    assert_ne!(id(&second), id(&text));
    let url = url_in(&second);
    assert_eq!(output(&url, "d"), "two  own");
    edit(&module, "two", "three");
    logged(&log, "dev-2-");
    assert_eq!(output(&url, "e"), "three  own");
    // As when the terminal is closed.
    signal(&dev, rustix::process::Signal::HUP);
    let ended = dev.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert!(workers(&folder).is_empty());
}

#[test]
fn a_missing_env_file_is_an_error() {
    let (_outside, folder) = new_worker("hello");
    let output = podwork(&folder, &["dev", "--port", "0", "--env-file", "no.env"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("error: file not found: no.env (--env-file)"),
        "{error}"
    );
}
