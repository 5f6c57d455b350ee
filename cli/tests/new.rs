//! Tests of `podwork new`, and of the crates that it creates, outside of the workspace.
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod common;

use common::{cargo, good, new_worker, podwork, root, said};

/// Creates a worker, tests it, and runs its test job.
fn works(template: &str) {
    let (_outside, folder) = new_worker(template);
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
    assert!(good(cargo(&folder, &["run"])).contains("COMPLETED"));
    good(cargo(&folder, &["fmt", "--check"]));
    let print = good(podwork(&folder, &["image", "--print"]));
    assert!(
        print.contains(&format!("\nARG CRATE=my-{template}\n")),
        "{print}"
    );
}

#[test]
fn hello() {
    works("hello");
}

#[test]
fn tokens() {
    works("tokens");
}

#[test]
fn image() {
    works("image");
}

#[test]
fn iterator() {
    works("iterator");
}

#[test]
fn model() {
    works("model");
}

#[test]
fn inside_another_workspace_it_stands_by_itself() {
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
fn what_cannot_be_made_is_said_and_nothing_is_written() {
    let outside = tempfile::tempdir().unwrap();
    let complaint = |args: &[&str]| {
        let output = podwork(outside.path(), args).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        said(&output)
    };
    assert!(complaint(&["new", "2fast"]).contains("begin with a letter"));
    assert!(complaint(&["new", "serde"]).contains("choose another"));
    assert!(complaint(&["new", "mine", "--podwork-path", "."]).contains("no runtime/Cargo.toml"));
    assert_eq!(outside.path().read_dir().unwrap().count(), 0);
    std::fs::create_dir(outside.path().join("mine")).unwrap();
    assert!(complaint(&["new", "mine"]).contains("already exists"));
}
