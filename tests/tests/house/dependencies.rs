//! Checks that features which are off bring no dependencies.

use std::collections::BTreeSet;
use std::process::Command;

/// The crates of the optional features.
const OPTIONAL: &[&str] = &[
    "data-url",
    "garde",
    "hex",
    "object_store",
    "opentelemetry",
    "opentelemetry-otlp",
    "prometheus-client",
    "schemars",
    "tar",
    "tracing-opentelemetry",
    "zip",
];
/// The crates of the default features.
const DEFAULT: &[&str] = &["axum", "nvml-wrapper", "podwork-platform", "reqwest"];

/// Returns the names of all crates that a worker with these features is built from.
fn crates(features: &[&str]) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", "podwork"])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{tree:?}");
    let tree = String::from_utf8(tree.stdout).unwrap();
    let names = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

fn present(candidates: &[&'static str], crates: &BTreeSet<String>) -> Vec<&'static str> {
    let present = candidates.iter().filter(|name| crates.contains(**name));
    present.copied().collect()
}

#[test]
fn disabled_features_bring_no_dependencies() {
    let all = crates(&["--all-features"]);
    assert_eq!(present(OPTIONAL, &all), OPTIONAL, "not a dependency");
    let default = crates(&[]);
    assert_eq!(present(OPTIONAL, &default), [""; 0]);
    assert_eq!(present(DEFAULT, &default), DEFAULT, "not a dependency");
    let none = crates(&["--no-default-features"]);
    assert_eq!(present(OPTIONAL, &none), [""; 0]);
    assert_eq!(present(DEFAULT, &none), [""; 0]);
}
