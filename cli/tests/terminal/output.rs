//! Standard output that nobody reads, or that is on a full disk.

use std::process::Command;

use crate::common::scripted::{Answer, Endpoint};
use crate::common::{closed, full, podwork, root, run_to};

/// Returns each command that prints, and whether it also prints on standard error.
fn printing(endpoint: &Endpoint, folder: &std::path::Path) -> Vec<(Command, bool)> {
    let url = endpoint.url();
    let checkout = root();
    let tokens = root().join("examples/tokens");
    let path = checkout.to_str().unwrap();
    let new = ["new", "mine", "--podwork-path", path];
    vec![
        (podwork(folder, &["completions", "bash"]), false),
        (podwork(folder, &["completions", "zsh"]), false),
        (podwork(folder, &["--help"]), false),
        (podwork(folder, &["invoke", "--help"]), false),
        (podwork(folder, &["--version"]), false),
        (podwork(folder, &new), false),
        (podwork(&tokens, &["image", "--print"]), false),
        (podwork(folder, &["invoke", "-e", &url, "-d", "1"]), true),
        (
            podwork(folder, &["invoke", "-e", &url, "-d", "1", "--json"]),
            false,
        ),
        (
            podwork(folder, &["invoke", "-e", &url, "-d", "1", "--stream"]),
            true,
        ),
    ]
}

fn endpoint() -> Endpoint {
    Endpoint::start(|operation, before| match (operation, before) {
        ("run", _) => Answer::ok(r#"{"id": "j", "status": "IN_QUEUE"}"#),
        ("status", _) => Answer::ok(r#"{"id": "j", "status": "COMPLETED", "output": [1, 2]}"#),
        ("stream", 0) => {
            Answer::ok(r#"{"status": "COMPLETED", "stream": [{"output": 1}, {"output": 2}]}"#)
        }
        ("stream", _) => Answer::ok(r#"{"status": "COMPLETED", "stream": []}"#),
        _ => Answer::status("404 Not Found", ""),
    })
}

#[test]
fn a_closed_reader_ends_the_tool_quietly() {
    let (endpoint, folder) = (endpoint(), tempfile::tempdir().unwrap());
    for (command, notes) in printing(&endpoint, folder.path()) {
        let shown = format!("{command:?}");
        let (code, said) = run_to(command, closed());
        assert_eq!(code, Some(0), "{shown}: {said}");
        // Cargo reports that it waits for another test, for example.
        let said_itself = said.lines().any(|line| !line.starts_with("    "));
        assert_eq!(said_itself, notes, "{shown}: {said}");
        assert!(
            !said.contains("error") && !said.contains("panic"),
            "{shown}: {said}"
        );
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let (endpoint, folder) = (endpoint(), tempfile::tempdir().unwrap());
    for (command, _) in printing(&endpoint, folder.path()) {
        let shown = format!("{command:?}");
        let (code, said) = run_to(command, full());
        assert_eq!(code, Some(1), "{shown}: {said}");
        let error = "error: cannot write to standard output: No space left on device";
        assert!(said.contains(error), "{shown}: {said}");
    }
}

#[test]
fn the_exit_code_of_doctor_is_its_result_although_nobody_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    // No program answers at this address, so the endpoint is bad.
    let args = ["doctor", "--endpoint", "http://127.0.0.1:1"];
    assert_eq!(
        run_to(podwork(folder.path(), &args), closed()),
        (Some(1), String::new())
    );
    let (code, said) = run_to(podwork(folder.path(), &args), full());
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot write to standard output"), "{said}");
}

#[test]
fn an_error_that_cannot_be_shown_is_still_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (["invoke", "--data", "{bad"].as_slice(), 2),
        (&["invoke", "--nonsense"], 2),
        (&["invoke", "-e", "http://127.0.0.1:1", "-d", "1"], 5),
        (&["new", "2bad"], 2),
    ] {
        let mut command = podwork(folder.path(), args);
        let output = command.stderr(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{args:?}");
    }
}
