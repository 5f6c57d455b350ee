//! A program with a supervised child, a shell script: the first argument. Prints the shim's process id, and obeys the
//! lines of its standard input: `kill` requests SIGKILL, and `close` closes the lifeline. At the end of the input, it waits
//! for the child, and exits with its exit code.

use std::io::{Write as _, stdin};
use std::process::{Command, ExitCode};

use podwork_supervisor::{KILL, ProcessGroup, shim, supervised};

fn main() -> ExitCode {
    if let Some(code) = shim() {
        return code;
    }
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &std::env::args().nth(1).expect("a script")])
        .env("GIVEN", "a value")
        .env_remove("REMOVED")
        .current_dir("/");
    let group = match std::env::args().nth(2).as_deref() {
        Some("terminal") => ProcessGroup::Terminal,
        _ => ProcessGroup::Own,
    };
    let mut command = supervised(&shell, group).expect("this program has a path");
    let mut child = command.spawn().expect("this program can be started");
    println!("shim {}", child.id());
    let mut lifeline = child.stdin.take();
    for line in stdin().lines() {
        match line.expect("text").as_str() {
            "kill" => {
                let lifeline = lifeline.as_mut().expect("the lifeline is open");
                lifeline.write_all(KILL).expect("the shim runs");
            }
            "close" => lifeline = None,
            other => panic!("unknown command {other}"),
        }
    }
    let status = child.wait().expect("the child is waited for once");
    drop(lifeline);
    ExitCode::from(u8::try_from(status.code().unwrap_or(255)).expect("one byte"))
}
