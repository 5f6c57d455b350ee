//! What a worker depends on that asks for no feature. The list is for one target, and others differ from it in what reaches
//! the system.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

use std::collections::BTreeSet;
use std::process::Command;

#[test]
fn a_feature_that_nobody_asks_for_brings_no_dependency() {
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
        "every worker now depends on {new:?}, and on {gone:?} no more: if that is meant, say so in \
         tests/dependencies.txt"
    );
}
