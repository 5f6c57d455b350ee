//! Checks the dependencies of a worker without optional features. The list is for one target; other targets have
//! different system libraries.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::collections::BTreeSet;
use std::process::Command;

#[test]
fn disabled_features_bring_no_dependencies() {
    let told: BTreeSet<&str> = include_str!("../dependencies.txt").lines().collect();
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", "podwork"])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{tree:?}");
    let tree = String::from_utf8(tree.stdout).unwrap();
    let names: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let new: Vec<_> = names.difference(&told).collect();
    let gone: Vec<_> = told.difference(&names).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "the default dependencies changed: added {new:?}, removed {gone:?}; if that is intended, \
         update tests/dependencies.txt"
    );
}
