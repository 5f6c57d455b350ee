//! The compiler's messages for invalid handlers, and the absence of any for valid ones.

use std::process::Command;

/// The toolchain whose messages are pinned.
const PINNED: &str = "rustc 1.95.";

#[test]
fn mistakes_are_answered_with_what_to_write_instead() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .unwrap()
        .stdout;
    let version = String::from_utf8(version).unwrap();
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    if version.starts_with(PINNED) {
        cases.compile_fail("tests/ui/fail/*.rs");
        // Some arguments of the attribute need a feature.
        match (cfg!(feature = "schema"), cfg!(feature = "validate")) {
            (true, true) => cases.compile_fail("tests/ui/features_on/*.rs"),
            (false, false) => cases.compile_fail("tests/ui/features_off/*.rs"),
            _ => {}
        }
    } else {
        eprintln!(
            "running only the passing cases: messages are pinned for {PINNED}x, and this is {}",
            version.trim()
        );
    }
}
