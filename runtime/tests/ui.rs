//! The compiler's messages for invalid handlers, and the absence of any for valid ones.
//!
//! The messages are pinned for one version of rustc. With another version, only the valid handlers are compiled.
#![allow(clippy::unwrap_used, reason = "a panic is an assertion in a test")]

use std::process::Command;

use trybuild::TestCases;

/// The toolchain whose messages are pinned.
const PINNED: &str = "rustc 1.95.";

/// Returns whether the messages of this compiler are the pinned ones.
fn is_pinned() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    let is_pinned = version.starts_with(PINNED);
    if !is_pinned {
        eprintln!(
            "skipping the pinned messages of {PINNED}x: this is {}",
            version.trim()
        );
    }
    is_pinned
}

#[test]
#[ignore = "slow: compiles each case; .ci/run runs it"]
fn valid_handlers_compile_and_mistakes_get_a_helpful_message() {
    let cases = TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    if is_pinned() {
        cases.compile_fail("tests/ui/fail/*.rs");
    }
}

#[test]
#[ignore = "slow: compiles each case; .ci/run runs it"]
fn options_that_need_a_feature_say_so() {
    if !is_pinned() {
        return;
    }
    let cases = TestCases::new();
    match (cfg!(feature = "schema"), cfg!(feature = "validate")) {
        (true, true) => cases.compile_fail("tests/ui/features_on/*.rs"),
        (false, false) => cases.compile_fail("tests/ui/features_off/*.rs"),
        _ => panic!("enable both of the features `schema` and `validate`, or none"),
    }
}
