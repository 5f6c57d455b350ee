//! What the compiler says of handlers that are none, and that it says nothing of good ones.

use std::process::Command;

/// The toolchain whose words are pinned.
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
        // What the attribute may ask for, its features bring.
        match (cfg!(feature = "schema"), cfg!(feature = "validate")) {
            (true, true) => cases.compile_fail("tests/ui/features_on/*.rs"),
            (false, false) => cases.compile_fail("tests/ui/features_off/*.rs"),
            _ => {}
        }
    } else {
        eprintln!(
            "only the passing cases: the messages of {PINNED}x are pinned, and this is {}",
            version.trim()
        );
    }
}
