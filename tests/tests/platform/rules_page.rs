//! Checks that every rule in `platform/RULES.md` names tests, and that they exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Collects the names of all test functions in the files of a folder, recursively.
fn tests_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let after_test = text.split("test]\n").chain(text.split("test(")).skip(1);
            names.extend(after_test.filter_map(|rest| {
                let name = rest.split_once("fn ")?.1.split_once('(')?.0;
                Some(name.to_owned())
            }));
        }
    }
}

#[test]
fn every_rule_names_existing_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut tests = BTreeSet::new();
    tests_in(&root.join("platform/src"), &mut tests);
    tests_in(&root.join("platform/tests"), &mut tests);
    tests_in(&root.join("tests/tests"), &mut tests);
    let page = fs::read_to_string(root.join("platform/RULES.md")).unwrap();
    let rules: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| rule"))
        .collect();
    assert!(rules.len() > 20);
    for rule in rules {
        let shown_by = rule.rsplit(" | ").next().unwrap();
        let named: Vec<&str> = shown_by.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "the rule names no test: {rule}");
        for name in named {
            assert!(tests.contains(name), "there is no test `{name}`: {rule}");
        }
    }
}
