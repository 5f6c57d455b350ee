//! Child processes: those of a supervisor, and those of a worker that is process 1.

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use podwork_platform::Platform;
use podwork_tests::{Binary, ended, submit, within_a_minute};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

/// A program with a supervised shell script.
struct Parent {
    process: Child,
    /// The output of the parent and of the script. It ends when all processes that inherited it have ended.
    output: BufReader<ChildStdout>,
    /// Lines that were read while another one was expected: the parent and the script print in any order.
    other_lines: Vec<String>,
    shim: String,
}

impl Parent {
    /// Starts the program, and waits until its script has printed `ready`.
    async fn ready(script: &str) -> Self {
        // The tests may have been started to ignore signals, as by `nohup`.
        let mut program = Command::new("env");
        program.args([
            "--default-signal",
            env!("CARGO_BIN_EXE_podwork-test-parent"),
            script,
        ]);
        let mut parent = Self::start(&mut program).await;
        parent.line("ready").await;
        parent
    }

    async fn start(command: &mut Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut parent = Self {
            process,
            output,
            other_lines: Vec::new(),
            shim: String::new(),
        };
        parent.shim = parent.line("shim ").await.split_off("shim ".len());
        parent
    }

    /// Returns the first line that starts with `start` and was not returned before.
    async fn line(&mut self, start: &str) -> String {
        if let Some(at) = self
            .other_lines
            .iter()
            .position(|line| line.starts_with(start))
        {
            return self.other_lines.remove(at);
        }
        within_a_minute(async {
            loop {
                let mut line = String::new();
                let read = self.output.read_line(&mut line).await.unwrap();
                assert!(read > 0, "the output ended without {start:?}");
                let line = line.trim_end().to_owned();
                if line.starts_with(start) {
                    return line;
                }
                self.other_lines.push(line);
            }
        })
        .await
    }

    /// Waits until all processes have ended, and returns the rest of their output.
    async fn all_ended(&mut self) -> String {
        let mut rest = String::new();
        within_a_minute(self.output.read_to_string(&mut rest))
            .await
            .unwrap();
        rest
    }

    async fn send(&mut self, line: &str) {
        self.process
            .stdin
            .as_mut()
            .unwrap()
            .write_all(line.as_bytes())
            .await
            .unwrap();
    }

    /// Waits until the script and all its descendants have ended, and returns the rest of their output and the exit code.
    async fn end(mut self) -> (String, Option<i32>) {
        drop(self.process.stdin.take());
        let rest = self.all_ended().await;
        (
            rest,
            within_a_minute(self.process.wait()).await.unwrap().code(),
        )
    }

    async fn code(self) -> Option<i32> {
        self.end().await.1
    }
}

async fn kill(signal: &str, process: &str) {
    let sent = Command::new("kill")
        .args([signal, process])
        .status()
        .await
        .unwrap();
    assert!(sent.success());
}

#[tokio::test]
async fn a_child_and_all_its_descendants_end_when_the_parent_is_killed() {
    // A grandchild, an orphan, and a process in its own session.
    const FAMILY: &str = "sleep 600 & (sleep 600 &) ; setsid sleep 600 & echo ready; wait";
    for signal in ["-KILL", "-HUP", "-TERM"] {
        let mut parent = Parent::ready(FAMILY).await;
        let id = parent.process.id().unwrap().to_string();
        kill(signal, &id).await;
        parent.all_ended().await;
    }
}

#[tokio::test]
async fn processes_that_ignore_requests_are_killed_after_the_grace_period() {
    const STUBBORN: &str =
        "trap '' TERM HUP INT; setsid sh -c 'echo ready; sleep 600' & (sleep 600 &); sleep 600";
    let mut parent = Parent::ready(STUBBORN).await;
    kill("-KILL", &parent.process.id().unwrap().to_string()).await;
    parent.all_ended().await;
}

#[tokio::test]
async fn a_closed_lifeline_terminates_and_a_request_kills_immediately() {
    let started = Instant::now();
    let mut parent =
        Parent::ready("trap 'echo terminated; exit 3' TERM; sleep 600 & echo ready; wait").await;
    parent.send("close\n").await;
    parent.line("terminated").await;
    assert_eq!(parent.code().await, Some(3));

    let mut parent = Parent::ready("trap '' TERM; setsid sleep 600 & echo ready; sleep 600").await;
    parent.send("kill\n").await;
    assert_eq!(parent.code().await, Some(137));
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "waited for the grace period"
    );
}

#[tokio::test]
async fn signals_are_passed_on_once_each() {
    for signal in ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2"] {
        let script = format!("trap 'echo got; exit 4' {signal}; sleep 600 & echo ready; wait");
        let parent = Parent::ready(&script).await;
        kill(&format!("-{signal}"), &parent.shim).await;
        assert_eq!(
            parent.end().await,
            ("got\n".to_owned(), Some(4)),
            "{signal}"
        );
    }
}

#[tokio::test]
async fn an_ignored_signal_stays_ignored() {
    let parent = env!("CARGO_BIN_EXE_podwork-test-parent");
    let script = "grep SigIgn /proc/self/status";
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP USR1; exec \"$0\" \"$1\"", parent, script]);
    let mut parent = Parent::start(&mut shell).await;
    let ignored = parent.line("SigIgn:").await;
    let mask = u64::from_str_radix(ignored["SigIgn:".len()..].trim(), 16).unwrap();
    // What these tests were started with, for example by `nohup`, stays ignored, too.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let given = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let given = u64::from_str_radix(given.unwrap().trim(), 16).unwrap();
    // Signal 1 is SIGHUP, 2 SIGINT, 10 SIGUSR1, and 15 SIGTERM.
    let watched = 0b100_0010_0000_0011;
    assert_eq!(
        mask & watched,
        (given & watched) | 0b10_0000_0001,
        "{ignored}"
    );
    assert_eq!(parent.code().await, Some(0));
}

#[tokio::test]
async fn the_exit_code_is_that_of_the_child() {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
        // Its descendants do not delay the end, and do not affect the code.
        ("setsid sleep 600 & exit 5", 5),
        (
            "test \"$GIVEN\" = 'a value' && test -z \"$REMOVED\" && test \"$(pwd)\" = /",
            0,
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_podwork-test-parent"));
        let parent = Parent::start(command.arg(script).env("REMOVED", "x")).await;
        assert_eq!(parent.code().await, Some(code), "{script}");
    }
}

#[tokio::test]
async fn orphans_below_a_shim_leave_no_zombies() {
    let mut parent = Parent::ready(
        "for n in $(seq 300); do (exit 0 & ) ; done; echo ready; read wait; sleep 600",
    )
    .await;
    let children = format!("/proc/{0}/task/{0}/children", parent.shim);
    // The only child that stays is the script.
    within_a_minute(async {
        loop {
            let listed = std::fs::read_to_string(&children).unwrap();
            if listed.split_whitespace().count() == 1 {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    parent.send("close\n").await;
    parent.code().await;
}

#[tokio::test]
async fn a_child_of_the_terminal_stays_in_the_parents_process_group() {
    let script = "cut -d' ' -f5 /proc/$$/stat /proc/$PPID/stat; echo ready; sleep 600";
    let parent = env!("CARGO_BIN_EXE_podwork-test-parent");
    let mut command = Command::new(parent);
    let mut parent = Parent::start(command.args([script, "terminal"]).process_group(0)).await;
    let group = parent.process.id().unwrap().to_string();
    for _ in 0..2 {
        assert_eq!(parent.line("").await.trim(), group);
    }
    parent.line("ready").await;
    kill("-KILL", &group).await;
    parent.all_ended().await;
}

/// Returns a worker that is process 1 of its own PID namespace.
fn process_1(platform: &Platform) -> Binary {
    let mut args = vec!["--pid", "--fork", "--mount-proc", "--kill-child"];
    if !rustix::process::geteuid().is_root() {
        args.extend(["--user", "--map-root-user"]);
    }
    args.push(env!("CARGO_BIN_EXE_podwork-test-worker"));
    Binary::new("unshare", &args).env(platform.worker_env("first"))
}

async fn shell(platform: &Platform, script: &str) -> Value {
    let id = submit(platform, &json!({ "do": "shell", "script": script }));
    let output = ended(platform, &id).await.output.unwrap();
    serde_json::from_str(output.get()).unwrap()
}

#[tokio::test]
#[ignore = "needs root or user namespaces; .ci/run runs it"]
async fn process_1_collects_orphans_and_the_handlers_own_children_stay_its_own() {
    let platform = Platform::builder().start().await.unwrap();
    let worker = process_1(&platform).start();
    let mut script = "for n in $(seq 500); do (exit 0 &) ; done; ".to_owned();
    // The result of the handler's own child is not lost among the orphans.
    for code in [0, 7, 42] {
        write!(script, "sh -c 'exit {code}'; echo $?; ").unwrap();
    }
    script.push_str("exit 9");
    let made = shell(&platform, &script).await;
    assert_eq!(made, json!({ "code": 9, "printed": "0\n7\n42\n" }));
    within_a_minute(async {
        let zombies = "cat /proc/[0-9]*/status 2>/dev/null | grep -c '^State:.Z'";
        while shell(&platform, zombies).await["printed"] != "0\n" {}
    })
    .await;
    // The worker is the only child of process 1.
    let listed = shell(
        &platform,
        "test \"$(cat /proc/1/task/1/children)\" = \"$PPID \"",
    )
    .await;
    assert_eq!(listed["code"], 0);

    // Process 1 passes SIGTERM on, and exits as the worker does.
    shell(&platform, "kill -TERM 1").await;
    assert_eq!(worker.code().await, Some(0));
}

#[tokio::test]
#[ignore = "needs root or user namespaces; .ci/run runs it"]
async fn process_1_exits_with_128_plus_the_signal_that_killed_the_worker() {
    let platform = Platform::builder().start().await.unwrap();
    let worker = process_1(&platform).start();
    let script = "setsid sleep 600 & kill -KILL $PPID";
    let _killed = submit(&platform, &json!({ "do": "shell", "script": script }));
    assert_eq!(worker.code().await, Some(137));
}

#[tokio::test]
#[ignore = "needs root or user namespaces; .ci/run runs it"]
async fn process_1_runs_the_jobs_itself_if_so_configured() {
    let platform = Platform::builder().start().await.unwrap();
    let variable = ("PODWORK_INIT", "0".to_owned());
    let worker = process_1(&platform).env([variable]).start();
    assert_eq!(shell(&platform, "echo $PPID").await["printed"], "1\n");
    shell(&platform, "kill -TERM 1").await;
    assert_eq!(worker.code().await, Some(0));
}
