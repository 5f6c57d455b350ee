//! The files that `podwork new` writes. The sources in `templates/` are links to the examples; only the files that must
//! differ in a standalone crate are generated here.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use toml_edit::{DocumentMut, InlineTable, Item, Value};

/// The workspace's manifest, with the versions and features of the examples' dependencies.
const WORKSPACE: &str = include_str!("../../templates/workspace.toml");
const DOCKERFILE: &str = include_str!("../../templates/Dockerfile.template");
/// The paths that are excluded from every build context.
pub(crate) const DOCKERIGNORE: &str = include_str!("../../templates/dockerignore");
const README: &str = include_str!("../../templates/README.md");

/// A template for a new worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// An `async fn` with a typed input and a typed output
    Hello,
    /// A stream with progress
    Tokens,
    /// Blocking work in a plain `fn`: shrinks an image
    Image,
    /// A stream from a plain iterator
    Iterator,
    /// A model that is loaded once and shared by four concurrent jobs
    Model,
    /// Waiting jobs that run together as a batch
    Batch,
    /// A file as input: downloads it from its URL
    Download,
    /// A file as output: uploads it, and returns its URL
    Upload,
    /// A slow first start, and warm starts after it: caches a folder on a network volume
    Cache,
    /// A handler with a JSON Schema and a checked input
    Schema,
}

/// One of the examples.
struct Example {
    /// The name of its package.
    package: &'static str,
    main: &'static str,
    manifest: &'static str,
    test_input: &'static str,
    /// Other files in `src/`.
    more: &'static [(&'static str, &'static str)],
}

macro_rules! example {
    ($folder:literal, $package:literal $(, $more:literal)*) => {
        Example {
            package: $package,
            main: include_str!(concat!("../../templates/", $folder, "/main.rs")),
            manifest: include_str!(concat!("../../templates/", $folder, "/manifest.toml")),
            test_input: include_str!(concat!("../../templates/", $folder, "/test_input.json")),
            more: &[$(($more, include_str!(concat!("../../templates/", $folder, "/", $more)))),*],
        }
    };
}

impl Template {
    fn example(self) -> Example {
        match self {
            Self::Hello => example!("hello", "hello"),
            Self::Tokens => example!("tokens", "tokens"),
            Self::Image => example!("image", "thumbnail"),
            Self::Iterator => example!("iterator", "counter"),
            Self::Model => example!("model", "captioner", "colours.txt"),
            Self::Batch => example!("batch", "embedder"),
            Self::Download => example!("download", "wordcount"),
            Self::Upload => example!("upload", "chart"),
            Self::Cache => example!("cache", "sieve"),
            Self::Schema => example!("schema", "mandelbrot"),
        }
    }

    /// Returns the `.gitignore`, which also lists what `podwork dev` does not watch.
    fn ignored(self) -> &'static str {
        match self {
            Self::Upload => "/target\n/simulated_uploaded\n",
            _ => "/target\n",
        }
    }

    /// Returns the files of a new crate, as pairs of path and text. `podwork` is a local checkout to depend on.
    pub(crate) fn files(
        self,
        name: &str,
        podwork: Option<&Path>,
        nested: bool,
    ) -> Result<Vec<(String, String)>> {
        let example = self.example();
        let as_own =
            |text: &str| text.replace(&format!("cargo run -p {}", example.package), "cargo run");
        let mut files = vec![
            (
                "Cargo.toml".to_owned(),
                manifest(&example, name, podwork, nested)?,
            ),
            ("src/main.rs".to_owned(), as_own(example.main)),
            ("test_input.json".to_owned(), example.test_input.to_owned()),
            ("Dockerfile".to_owned(), dockerfile(name)),
            (".dockerignore".to_owned(), DOCKERIGNORE.to_owned()),
            (".gitignore".to_owned(), self.ignored().to_owned()),
            ("README.md".to_owned(), README.replace("{name}", name)),
        ];
        let more = example.more.iter();
        files.extend(more.map(|(path, text)| (format!("src/{path}"), (*text).to_owned())));
        Ok(files)
    }
}

/// Returns the Dockerfile of a package.
pub(crate) fn dockerfile(package: &str) -> String {
    DOCKERFILE.replace("\nARG CRATE\n", &format!("\nARG CRATE={package}\n"))
}

/// Returns the example's manifest, with all values that it inherits from the workspace.
fn manifest(example: &Example, name: &str, podwork: Option<&Path>, nested: bool) -> Result<String> {
    let workspace: DocumentMut = WORKSPACE.parse()?;
    let own: DocumentMut = example.manifest.parse()?;
    let package = &workspace["workspace"]["package"];
    let text = |item: &Item| item.as_str().unwrap_or_default().to_owned();
    let mut made = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"{}\"\nrust-version = \"{}\"\npublish = false\n",
        text(&package["edition"]),
        text(&package["rust-version"]),
    );
    for section in ["dependencies", "dev-dependencies"] {
        write!(made, "\n[{section}]\n")?;
        let wanted = own[section].as_table_like();
        for (dependency, wanted) in wanted.into_iter().flat_map(|table| table.iter()) {
            let shared = &workspace["workspace"]["dependencies"][dependency];
            let mut spec = specification(shared, wanted)
                .with_context(|| format!("{dependency} of the template"))?;
            if dependency == "podwork" {
                spec.remove("path");
                if let Some(podwork) = podwork {
                    let runtime = podwork.join("runtime");
                    spec.insert("path", runtime.display().to_string().into());
                }
            }
            let value = match spec.get("version") {
                Some(version) if spec.len() == 1 => version.clone(),
                _ => Value::InlineTable(spec),
            };
            writeln!(made, "{dependency} = {}", value.decorated("", ""))?;
        }
    }
    made += "\n[profile.release]\nlto = \"thin\"\nstrip = true\n";
    if nested {
        made += "\n# Keeps this crate out of workspaces in parent folders.\n[workspace]\n";
    }
    Ok(made)
}

/// Merges a dependency of the workspace with the features that the example adds.
fn specification(shared: &Item, wanted: &Item) -> Option<InlineTable> {
    let mut spec = InlineTable::new();
    match shared.as_value()? {
        Value::InlineTable(table) => spec = table.clone(),
        version => {
            spec.insert("version", version.clone().decorated("", ""));
        }
    }
    let more = wanted
        .as_table_like()?
        .get("features")
        .and_then(Item::as_array);
    if let Some(more) = more {
        let mut features = spec
            .get("features")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        for feature in more {
            features.push(feature.as_str()?);
        }
        features.fmt();
        spec.insert("features", Value::Array(features));
    }
    spec.fmt();
    Some(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_stands_by_itself() {
        for template in Template::value_variants() {
            let files = template.files("mine", None, false).unwrap();
            let (_, manifest) = &files[0];
            assert!(!manifest.contains("workspace"), "{manifest}");
            let manifest: DocumentMut = manifest.parse().unwrap();
            let podwork = &manifest["dependencies"]["podwork"];
            let version = podwork.as_str().or_else(|| podwork["version"].as_str());
            assert!(version.unwrap().starts_with("0."), "{manifest}");
            assert!(podwork.get("path").is_none(), "{manifest}");
        }
    }

    #[test]
    fn a_template_is_the_example_outside_of_the_workspace() {
        for template in Template::value_variants() {
            let files = template.files("mine", None, false).unwrap();
            let text = |wanted: &str| {
                let found = files.iter().find(|(path, _)| path == wanted);
                found.map(|(_, text)| text.as_str()).unwrap()
            };
            let main = text("src/main.rs");
            assert!(!main.contains("cargo run -p"), "{template:?}");
            assert!(
                main.contains("async fn a_job_goes_through_a_whole_worker()"),
                "{template:?}"
            );
            let input: serde_json::Value = serde_json::from_str(text("test_input.json")).unwrap();
            assert!(input.get("input").is_some(), "{template:?}");
        }
    }

    #[test]
    fn every_example_is_a_template() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let mut names: Vec<String> = examples
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let templates = Template::value_variants().iter();
        let mut packages: Vec<&str> = templates
            .map(|template| template.example().package)
            .collect();
        names.sort_unstable();
        packages.sort_unstable();
        assert_eq!(names, packages);
    }

    #[test]
    fn features_of_the_workspace_and_of_the_example_add_up() {
        let shared: DocumentMut =
            r#"a = { version = "1", default-features = false, features = ["x"] }"#
                .parse()
                .unwrap();
        let wanted: DocumentMut = r#"a = { workspace = true, features = ["y"] }"#.parse().unwrap();
        let spec = specification(&shared["a"], &wanted["a"]).unwrap();
        assert_eq!(
            Value::InlineTable(spec).decorated("", "").to_string(),
            r#"{ version = "1", default-features = false, features = ["x", "y"] }"#
        );
    }

    #[test]
    fn the_rendered_dockerfile_knows_its_crate() {
        assert!(dockerfile("mine").contains("\nARG CRATE=mine\n"));
    }
}
