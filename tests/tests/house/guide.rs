//! Checks that the guide in `docs/` is complete: chapters, links and variable names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Returns the file name and the text of every chapter.
fn chapters() -> Vec<(String, String)> {
    let files = fs::read_dir(root().join("docs/src")).unwrap();
    let mut chapters: Vec<(String, String)> = files
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    chapters.sort();
    chapters
}

/// Returns the targets of a page's links.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let after = text.split("](").skip(1);
    after.filter_map(|rest| rest.split_once(')').map(|(link, _)| link))
}

#[test]
fn the_summary_lists_every_chapter_once() {
    let chapters = chapters();
    let (_, summary) = chapters
        .iter()
        .find(|(name, _)| name == "SUMMARY.md")
        .unwrap();
    let listed: Vec<&str> = links(summary).collect();
    let names: BTreeSet<&str> = chapters
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| *name != "SUMMARY.md")
        .collect();
    assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), names);
    assert_eq!(listed.len(), names.len());
}

#[test]
fn every_chapters_code_is_compiled() {
    let source = fs::read_to_string(root().join("tests/src/lib.rs")).unwrap();
    let (_, list) = source.split_once("    chapters! {\n").unwrap();
    let (list, _) = list.split_once('}').unwrap();
    let compiled: BTreeSet<String> = list
        .split('"')
        .skip(1)
        .step_by(2)
        .map(|chapter| format!("{chapter}.md"))
        .collect();
    let chapters = chapters().into_iter().map(|(name, _)| name);
    let chapters: BTreeSet<String> = chapters.filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(compiled, chapters);
}

#[test]
fn every_link_points_to_an_existing_file() {
    const OURS: &str = "https://github.com/podwork/podwork/blob/main/";

    for (name, text) in chapters() {
        for link in links(&text) {
            let file = match link.strip_prefix(OURS) {
                // A file of this repository outside the guide.
                Some(file) => root().join(file),
                None if link.contains("://") => continue,
                None => root().join("docs/src").join(link),
            };
            assert!(file.is_file(), "{name}: {link}");
        }
    }
}

#[test]
fn the_environment_reference_names_every_variable() {
    let reference = fs::read_to_string(root().join("docs/src/environment.md")).unwrap();
    let source = fs::read_to_string(root().join("protocol/src/env.rs")).unwrap();
    let variables: Vec<&str> = source
        .split('"')
        .filter(|text| text.starts_with("RUNPOD_"))
        .collect();
    assert!(variables.len() > 15);
    for variable in variables {
        assert!(reference.contains(&format!("`{variable}`")), "{variable}");
    }
}

#[test]
fn the_wrong_forms_of_the_first_chapter_fail_with_the_errors_that_it_quotes() {
    let page = fs::read_to_string(root().join("docs/src/first-worker.md")).unwrap();
    let cases = root().join("runtime/tests/ui");
    let read = |file: String| fs::read_to_string(cases.join(file)).unwrap();
    // `runtime/tests/ui.rs` compiles these cases. A row without an error of its own has that of the row before.
    let mut error = "";
    for (wrong, case, quotes) in [
        ("`podwork::run(greet)`", "handler_as_argument", true),
        (
            "`Worker::new(greet).run()`",
            "handler_as_argument_of_new",
            false,
        ),
        ("no attribute", "no_attribute", true),
    ] {
        let row = page
            .lines()
            .find(|line| line.contains(&format!("| {wrong} |")));
        let cell = row
            .unwrap()
            .trim_end_matches(" |")
            .rsplit("| ")
            .next()
            .unwrap();
        if quotes {
            error = cell;
        } else {
            assert_eq!(cell, "the same");
        }
        let source = read(format!("fail/{case}.rs"));
        match wrong.strip_prefix('`') {
            Some(code) => assert!(source.contains(code.trim_end_matches('`')), "{source}"),
            None => assert!(!source.contains("#["), "{source}"),
        }
        let shown = read(format!("fail/{case}.stderr"));
        let quoted: Vec<&str> = error.split('"').skip(1).step_by(2).collect();
        assert!(!quoted.is_empty(), "{wrong}");
        assert!(
            quoted.iter().all(|part| shown.contains(part)),
            "{wrong}: {shown}"
        );
    }
    // This form compiles without a warning.
    assert!(page.contains("| `fn main() { podwork::run::<greet>(); }` | none,"));
    let shapes = read("pass/shapes.rs".to_owned());
    assert!(shapes.starts_with("#![deny(warnings") && shapes.contains(" podwork::run::<call>();"));
}
