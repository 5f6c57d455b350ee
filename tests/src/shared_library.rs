//! Shared libraries in C, for behaviour of the system that a test cannot cause otherwise.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles `source` to the shared library `folder/name`, and returns its path. Uses `cc`, which Rust links with, too.
///
/// # Panics
/// Panics if the compiler is missing or fails.
#[must_use]
pub fn shared_library(folder: &Path, name: &str, source: &str) -> PathBuf {
    let (library, text) = (folder.join(name), folder.join("source.c"));
    std::fs::write(&text, source).expect("a writable folder");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &text])
        .arg("-ldl")
        .output()
        .expect("this test needs the C compiler `cc`");
    assert!(compiled.status.success(), "{compiled:?}");
    library
}
