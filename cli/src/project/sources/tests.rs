use std::fs;

use tempfile::TempDir;

use super::*;

/// A project in a temporary folder, with a binary and cargo's list of its sources.
struct Sources {
    root: TempDir,
    project: Project,
}

impl Sources {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("work er");
        for (name, text) in [
            ("Cargo.toml", ""),
            ("Cargo.lock", ""),
            ("src/main.rs", "mod target;"),
            ("src/target/mod.rs", ""),
            ("prompts/one.txt", "1"),
            (".gitignore", "/results\n*.log\n"),
            ("target/debug/worker", ""),
        ] {
            write(&folder.join(name), text);
        }
        let project = Project {
            name: "worker".to_owned(),
            version: "0.1.0".to_owned(),
            bin: "worker".to_owned(),
            workspace: folder.clone(),
            outputs: vec![folder.join("target")],
            local: vec![folder.clone()],
            folder,
        };
        let sources = Self { root, project };
        sources.list(&["src/main.rs", "src/target/mod.rs", "prompts"]);
        sources
    }

    fn path(&self, name: &str) -> PathBuf {
        self.project.folder.join(name)
    }

    /// Writes the list of sources.
    fn list(&self, names: &[&str]) {
        let paths = names
            .iter()
            .map(|name| self.path(name).display().to_string());
        let paths: Vec<String> = paths.map(|path| path.replace(' ', "\\ ")).collect();
        write(
            &self.path("target/debug/worker.d"),
            &format!("worker: {}\n", paths.join(" ")),
        );
    }

    fn write(&self, name: &str, text: &str) {
        write(&self.path(name), text);
    }

    /// Returns a watcher after a build.
    fn built(&self, poll: bool) -> SourceWatcher {
        let mut watch = SourceWatcher::start(&self.project, &[self.path(".env")], poll);
        watch.before_build();
        let during = watch.after_build(Some(&self.path("target/debug/worker")));
        assert_eq!(during, DuringBuild::Unchanged);
        assert_eq!(watch.poll_reason(), None);
        watch
    }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

async fn changed(watch: &mut SourceWatcher) {
    let changed = tokio::time::timeout(Duration::from_mins(1), watch.changed());
    changed.await.expect("a change");
}

/// Changes that cause a build.
const CHANGES: [(&str, &str); 7] = [
    ("src/main.rs", "fn main() {}"),
    // A module may have any name.
    ("src/target/mod.rs", "pub fn f() {}"),
    ("Cargo.toml", "[package]"),
    // Below a folder that a build script names.
    ("prompts/deep/two.txt", "2"),
    ("build.rs", "fn main() {}"),
    (".cargo/config.toml", "[build]"),
    (".env", "A=1"),
];

/// Files that a worker or the tool writes.
const WRITTEN: [&str; 6] = [
    "log.txt",
    "src/out.rs",
    "simulated_uploaded/a.png",
    "results/a.png",
    "a.log",
    "target/debug/worker",
];

#[tokio::test]
async fn each_kind_of_source_causes_a_build() {
    for poll in [false, true] {
        for (name, text) in CHANGES {
            let sources = Sources::new();
            let mut watch = sources.built(poll);
            sources.write(name, text);
            changed(&mut watch).await;
        }
    }
}

#[tokio::test]
async fn other_files_cause_no_build() {
    for poll in [false, true] {
        let sources = Sources::new();
        let watch = sources.built(poll);
        for name in WRITTEN {
            sources.write(name, "written");
        }
        assert_eq!(watch.now(), watch.seen);
        for name in WRITTEN {
            let interest = watch.interest.read().unwrap();
            assert!(!interest.concerns(&sources.path(name)), "{name}");
        }
        for (name, _) in CHANGES {
            let interest = watch.interest.read().unwrap();
            assert!(interest.concerns(&sources.path(name)), "{name}");
        }
    }
}

#[tokio::test]
async fn after_a_failed_build_new_files_and_all_rust_files_count() {
    for poll in [false, true] {
        for name in [
            "src/new.rs",
            "src/new/mod.rs",
            "missing.txt",
            "src/target/deep.rs",
        ] {
            let sources = Sources::new();
            let mut watch = sources.built(poll);
            sources.write("log.txt", "a");
            watch.before_build();
            assert_eq!(watch.after_build(None), DuringBuild::Unchanged);
            // A log that grows is not a source, and git ignores others.
            for (name, text) in [("log.txt", "ab"), ("results/1.rs", ""), ("a.log", "")] {
                sources.write(name, text);
                assert_eq!(watch.now(), watch.seen, "{name}");
            }
            sources.write("simulated_uploaded/1.png", "");
            sources.write("target/debug/build/out.rs", "");
            assert_eq!(watch.now(), watch.seen);
            sources.write(name, "");
            changed(&mut watch).await;
        }
    }
}

#[tokio::test]
async fn a_removed_or_replaced_folder_of_sources_is_a_change() {
    for poll in [false, true] {
        let sources = Sources::new();
        let mut watch = sources.built(poll);
        fs::rename(sources.path("src/target"), sources.path("src/moved")).unwrap();
        changed(&mut watch).await;
        watch.before_build();
        watch.after_build(None);
        fs::rename(sources.path("src/moved"), sources.path("src/target")).unwrap();
        changed(&mut watch).await;
        watch.before_build();
        watch.after_build(Some(&sources.path("target/debug/worker")));
        sources.write("src/target/mod.rs", "pub fn g() {}");
        changed(&mut watch).await;
    }
}

#[tokio::test]
async fn changes_during_builds_cause_a_limited_number_of_builds() {
    let sources = Sources::new();
    let binary = sources.path("target/debug/worker");
    let mut watch = sources.built(true);
    watch.before_build();
    sources.write("src/main.rs", "fn main() { changed() }");
    assert_eq!(watch.after_build(Some(&binary)), DuringBuild::Changed);
    // The same content, and a lock file that cargo wrote.
    watch.before_build();
    sources.write("src/main.rs", "fn main() { changed() }");
    sources.write("Cargo.lock", "version = 4");
    assert_eq!(watch.after_build(Some(&binary)), DuringBuild::Unchanged);
    // A build script that writes another file each time.
    for build in 1..=10 {
        watch.before_build();
        sources.write("src/main.rs", &format!("fn main() {{ {build} }}"));
        let expected = if build % 5 == 0 {
            DuringBuild::AlwaysChanged
        } else {
            DuringBuild::Changed
        };
        assert_eq!(watch.after_build(Some(&binary)), expected, "{build}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_target_of_a_link_is_a_source() {
    let sources = Sources::new();
    let shared = sources.root.path().join("shared.rs");
    write(&shared, "");
    std::os::unix::fs::symlink(&shared, sources.path("src/shared.rs")).unwrap();
    sources.list(&["src/main.rs", "src/shared.rs"]);
    let mut watch = sources.built(false);
    write(&shared, "pub fn f() {}");
    changed(&mut watch).await;
}

#[tokio::test]
async fn a_build_script_that_names_its_own_folder_leaves_out_what_git_ignores() {
    let sources = Sources::new();
    sources.list(&["src/main.rs", ""]);
    let mut watch = sources.built(false);
    sources.write("results/a.png", "");
    sources.write("a.log", "");
    assert_eq!(watch.now(), watch.seen);
    sources.write("data.json", "");
    changed(&mut watch).await;
}

#[tokio::test]
async fn the_sources_of_a_new_dependency_count_after_the_build() {
    let sources = Sources::new();
    let mut watch = sources.built(false);
    let outside = sources.root.path().join("lib");
    write(&outside.join("Cargo.toml"), "");
    write(&outside.join("src/lib.rs"), "");
    sources.list(&["src/main.rs", "../lib/src/lib.rs"]);
    watch.before_build();
    watch.after_build(Some(&sources.path("target/debug/worker")));
    write(&outside.join("src/lib.rs"), "pub fn f() {}");
    changed(&mut watch).await;
    watch.before_build();
    watch.after_build(Some(&sources.path("target/debug/worker")));
    write(&outside.join("Cargo.toml"), "[package]");
    changed(&mut watch).await;
}
