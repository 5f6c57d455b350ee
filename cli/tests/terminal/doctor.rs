//! Tests of `podwork doctor`.

use std::path::Path;

use crate::common::scripted::{Answer, Endpoint};
use crate::common::{object, podwork};
use serde_json::{Value, json};

/// Returns the finding of this name.
fn finding(folder: &Path, name: &str, args: &[&str]) -> Value {
    let args = [
        &["doctor", "--json", "--endpoint", "http://127.0.0.1:1"],
        args,
    ]
    .concat();
    let mut command = podwork(folder, &args);
    command.env("CARGO_NET_OFFLINE", "true");
    let report = object(&command.output().unwrap());
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["name"] == name);
    found.unwrap().clone()
}

fn endpoint(health: &'static str) -> Value {
    let endpoint = Endpoint::start(move |operation, _| match operation {
        "health" => Answer::ok(health),
        _ => Answer::status("404 Not Found", ""),
    });
    let folder = tempfile::tempdir().unwrap();
    let args = ["doctor", "--json", "--endpoint", &endpoint.url()];
    last_finding(&object(&podwork(folder.path(), &args).output().unwrap()))
}

/// Returns the last finding of a report, which is that of the endpoint.
pub(crate) fn last_finding(report: &Value) -> Value {
    report["findings"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone()
}

#[test]
fn counts_that_an_endpoint_leaves_out_are_0() {
    for (health, found) in [
        (
            r#"{"jobs": {"completed": 1, "failed": 5, "inProgress": 0, "inQueue": 2, "retried": 0},
                "workers": {"idle": 1, "running": 3}}"#,
            "workers idle: 1, running: 3; jobs in the queue: 2",
        ),
        (
            r#"{"workers": {}}"#,
            "workers idle: 0, running: 0; jobs in the queue: 0",
        ),
        (
            r#"{"jobs": null, "workers": {"idle": 2, "running": "?"}, "region": "eu"}"#,
            "workers idle: 2, running: 0; jobs in the queue: 0",
        ),
    ] {
        let finding = endpoint(health);
        assert_eq!(finding["verdict"], "good", "{finding}");
        assert!(
            finding["found"].as_str().unwrap().contains(found),
            "{finding}"
        );
    }
}

#[test]
fn another_server_is_not_an_endpoint() {
    for (health, reason) in [
        (r#"{"status": "ok"}"#, "neither `jobs` nor `workers`"),
        (
            "<html><title>Welcome</title></html>",
            "not JSON but an HTML page, `Welcome`",
        ),
        ("", "not JSON but empty"),
        ("[]", "invalid type: sequence"),
    ] {
        let finding = endpoint(health);
        assert_eq!(finding["verdict"], "bad", "{finding}");
        assert!(
            finding["found"].as_str().unwrap().contains(reason),
            "{finding}"
        );
    }
}

#[test]
fn the_reason_of_cargo_is_its_error() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("Cargo.toml");
    let found = |text: &str| {
        std::fs::write(&manifest, text).unwrap();
        let finding = finding(folder.path(), "worker", &[]);
        assert_eq!(finding["verdict"], "bad", "{finding}");
        finding["found"].as_str().unwrap().to_owned()
    };
    let broken = found("[package\n");
    assert!(
        broken.starts_with("cargo cannot read this folder's package: "),
        "{broken}"
    );
    assert!(
        broken.contains("Cargo.toml") || broken.contains("expected"),
        "{broken}"
    );

    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::write(folder.path().join("src/main.rs"), "fn main() {}").unwrap();
    // Without a lock file and without a network, cargo prints its progress first.
    let package =
        "[package]\nname = \"mine\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\n";
    let missing = found(&format!("{package}no-such-crate-of-anyone = \"1\"\n"));
    assert!(missing.contains("no-such-crate-of-anyone"), "{missing}");
    assert!(!missing.contains("Updating"), "{missing}");
    let path = found(&format!("{package}x = {{ path = \"no/such\" }}\n"));
    assert!(path.contains("no/such"), "{path}");
}

#[test]
fn a_folder_without_a_manifest_is_only_noted() {
    let folder = tempfile::tempdir().unwrap();
    let finding = finding(folder.path(), "worker", &[]);
    assert_eq!(finding["verdict"], "note", "{finding}");
    let found = finding["found"].as_str().unwrap();
    assert_eq!(
        found,
        "no worker in this folder: no Cargo.toml here or in a parent folder"
    );
}

#[test]
fn the_test_input_is_checked_as_a_worker_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("src")).unwrap();
    std::fs::write(folder.path().join("src/main.rs"), "fn main() {}").unwrap();
    let manifest = "[package]\nname = \"mine\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    for (text, verdict, reason) in [
        (
            b"\xef\xbb\xbf{\"id\": \"a\", \"input\": 1}".as_slice(),
            "good",
            "with test_input.json",
        ),
        (
            b"{\"input\": 1, \"polcy\": {}}",
            "bad",
            "unknown field `polcy`",
        ),
        (b"{}", "bad", "missing field `input`"),
        (b"\xff\xfe{\0}\0", "bad", "UTF-8"),
    ] {
        std::fs::write(folder.path().join("test_input.json"), text).unwrap();
        let finding = finding(folder.path(), "worker", &[]);
        assert_eq!(finding["verdict"], json!(verdict), "{finding}");
        assert!(
            finding["found"].as_str().unwrap().contains(reason),
            "{finding}"
        );
    }
}
