//! Tests of `podwork new`, and of the crates that it creates, outside of the workspace.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

mod common;

use common::{cargo, good, new_worker, podwork, root, said};

/// Creates a worker, tests it, and runs its test job.
fn works(template: &str) {
    let (outside, folder) = new_worker(template);
    for file in [
        "Dockerfile",
        ".dockerignore",
        ".gitignore",
        "README.md",
        "test_input.json",
        "src/main.rs",
    ] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let tested = good(cargo(&folder, &["test"]));
    assert!(
        tested.contains("a_job_goes_through_a_whole_worker ... ok"),
        "{tested}"
    );
    let mut run = cargo(&folder, &["run"]);
    run.env("TMPDIR", outside.path());
    assert!(good(run).contains("COMPLETED"));
    good(cargo(&folder, &["fmt", "--check"]));
    let print = good(podwork(&folder, &["image", "--print"]));
    assert!(
        print.contains(&format!("\nARG CRATE=my-{template}\n")),
        "{print}"
    );
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn hello() {
    works("hello");
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn tokens() {
    works("tokens");
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn image() {
    works("image");
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn iterator() {
    works("iterator");
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn model() {
    works("model");
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn batch() {
    works("batch");
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn download() {
    works("download");
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn upload() {
    works("upload");
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn cache() {
    works("cache");
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn schema() {
    works("schema");
}

#[test]
#[ignore = "slow: builds a worker; .ci/run runs it"]
fn new_inside_another_workspace_creates_a_separate_workspace() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(
        outside.path().join("Cargo.toml"),
        "[workspace]\nmembers = []\n",
    )
    .unwrap();
    let checkout = root();
    good(podwork(
        outside.path(),
        &["new", "inner", "--podwork-path", checkout.to_str().unwrap()],
    ));
    good(cargo(
        &outside.path().join("inner"),
        &["metadata", "--format-version", "1", "--no-deps"],
    ));
}

#[test]
fn new_announces_the_length_of_the_first_build() {
    let outside = tempfile::tempdir().unwrap();
    let checkout = root();
    let args = ["new", "mine", "--podwork-path", checkout.to_str().unwrap()];
    let printed = good(podwork(outside.path(), &args));
    let steps = printed.find("podwork dev").unwrap();
    let announced = printed.find("The first build compiles all dependencies: up to 6 minutes");
    assert!(announced.unwrap() > steps, "{printed}");
    assert!(printed.contains("Later builds take seconds."), "{printed}");
}

#[test]
fn new_reports_an_invalid_name_and_writes_nothing() {
    let outside = tempfile::tempdir().unwrap();
    let complaint = |args: &[&str]| {
        let output = podwork(outside.path(), args).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        said(&output)
    };
    assert!(complaint(&["new", "2fast"]).contains("begin with a letter"));
    assert!(complaint(&["new", "serde"]).contains("choose another"));
    let unknown = podwork(outside.path(), &["new", "mine", "--template", "video"])
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    let templates = said(&unknown);
    for template in ["hello", "batch", "download", "upload", "cache", "schema"] {
        assert!(templates.contains(template), "{templates}");
    }
    assert!(complaint(&["new", "mine", "--podwork-path", "."]).contains("no runtime/Cargo.toml"));
    assert_eq!(outside.path().read_dir().unwrap().count(), 0);
    std::fs::create_dir(outside.path().join("mine")).unwrap();
    assert!(complaint(&["new", "mine"]).contains("already exists"));
}
