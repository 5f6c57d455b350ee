//! The build context of a crate with path dependencies. A build can read only its context, so the sources of those
//! dependencies are copied into it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use ignore::WalkBuilder;
use tempfile::TempDir;
use toml_edit::{DocumentMut, Item, TableLike, Value};

use crate::project::{Project, workspace_of};

/// The folder of the copied dependencies in the context.
const FOLDER: &str = "path-dependencies";

/// Folders that are never sent to a build.
const LEFT_OUT: [&str; 3] = ["target", ".git", "node_modules"];

/// The folder to build in: the workspace itself, or a copy of it with the sources of its path dependencies.
#[derive(Debug)]
pub(crate) enum BuildContext {
    Own(PathBuf),
    Staged(TempDir),
}

impl BuildContext {
    pub(crate) fn of(project: &Project) -> Result<Self> {
        let outside = project
            .local
            .iter()
            .filter(|folder| !folder.starts_with(&project.workspace));
        let mut workspaces: Vec<PathBuf> = Vec::new();
        for folder in outside {
            let workspace = workspace_of(folder)?;
            if !workspaces.contains(&workspace) {
                workspaces.push(workspace);
            }
        }
        if workspaces.is_empty() {
            return Ok(Self::Own(project.workspace.clone()));
        }
        let staged =
            TempDir::with_prefix("podwork-image-").context("cannot create a temporary folder")?;
        copy_all(&project.workspace, staged.path())?;
        let mut moved = Vec::new();
        for (number, workspace) in workspaces.into_iter().enumerate() {
            let inner = Path::new(FOLDER).join(number.to_string());
            copy_sources(&workspace, &staged.path().join(&inner))?;
            moved.push((workspace, inner));
        }
        let package = project
            .folder
            .strip_prefix(&project.workspace)
            .unwrap_or(Path::new(""));
        let manifests = [PathBuf::new(), package.to_owned()];
        for folder in &manifests[..if package == Path::new("") { 1 } else { 2 }] {
            repoint(
                &project.workspace.join(folder),
                &staged.path().join(folder),
                folder,
                &moved,
            )?;
        }
        Ok(Self::Staged(staged))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Own(path) => path,
            Self::Staged(folder) => folder.path(),
        }
    }
}

/// Copies the whole workspace of the worker: the image may need a file that git ignores, such as a model.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let mut walk = WalkBuilder::new(from);
    walk.standard_filters(false);
    copy(walk, from, to)
}

/// Copies another workspace, without the files that git ignores.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    let mut walk = WalkBuilder::new(from);
    walk.hidden(true)
        .require_git(false)
        .parents(false)
        .git_global(false);
    copy(walk, from, to)
}

fn copy(mut walk: WalkBuilder, from: &Path, to: &Path) -> Result<()> {
    // A link may point outside of the folder, so its target is copied.
    walk.follow_links(true);
    walk.filter_entry(|entry| !LEFT_OUT.iter().any(|name| entry.file_name() == *name));
    for entry in walk.build() {
        let entry = entry?;
        let target = to.join(entry.path().strip_prefix(from)?);
        let copied = match entry.file_type() {
            Some(kind) if kind.is_dir() => fs::create_dir_all(&target),
            _ => copy_file(entry.path(), &target),
        };
        copied.with_context(|| format!("cannot copy {}", entry.path().display()))?;
    }
    Ok(())
}

/// Copies a file with its modification time, which cargo uses to detect changes.
fn copy_file(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut source = fs::File::open(from)?;
    let about = source.metadata()?;
    let mut target = fs::File::create(to)?;
    std::io::copy(&mut source, &mut target)?;
    target.set_permissions(about.permissions())?;
    target.set_modified(about.modified()?)
}

/// Rewrites the path dependencies of the manifest in `copy` to their new paths. `below` is the path of `copy` in the
/// context.
fn repoint(original: &Path, copy: &Path, below: &Path, moved: &[(PathBuf, PathBuf)]) -> Result<()> {
    let manifest = copy.join("Cargo.toml");
    let mut document: DocumentMut = fs::read_to_string(&manifest)?.parse()?;
    let up: PathBuf = below.components().map(|_| "..").collect();
    let place = |path: &str| -> Result<Option<String>> {
        let full = original.join(path);
        let full = full
            .canonicalize()
            .with_context(|| format!("cannot find the path dependency {}", full.display()))?;
        let found = moved.iter().find_map(|(from, to)| {
            let inner = full.strip_prefix(from).ok()?;
            Some(up.join(to).join(inner))
        });
        Ok(found.map(|path| path.display().to_string()))
    };
    visit(document.as_table_mut(), &place)?;
    fs::write(&manifest, document.to_string())?;
    Ok(())
}

/// Visits all tables of dependencies: those of the package, of targets and of the workspace, and patches.
fn visit(table: &mut dyn TableLike, place: &dyn Fn(&str) -> Result<Option<String>>) -> Result<()> {
    for (name, item) in table.iter_mut() {
        let dependencies = name.get().ends_with("dependencies");
        match item.as_table_like_mut() {
            Some(inner) if dependencies || name.get() == "patch" => repoint_all(inner, place)?,
            Some(inner)
                if matches!(name.get(), "target" | "workspace")
                    || name.get().starts_with("cfg(") =>
            {
                visit(inner, place)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn repoint_all(
    table: &mut dyn TableLike,
    place: &dyn Fn(&str) -> Result<Option<String>>,
) -> Result<()> {
    for (name, dependency) in table.iter_mut() {
        let Some(specification) = dependency.as_table_like_mut() else {
            continue;
        };
        match specification
            .get("path")
            .map(|path| path.as_str().map(ToOwned::to_owned))
        {
            Some(Some(path)) => {
                if let Some(path) = place(&path)? {
                    specification.insert("path", Item::Value(Value::from(path)));
                }
            }
            Some(None) => bail!("the path of {} is not a string", name.get()),
            // A patch is a table of dependency tables.
            None => repoint_all(specification, place)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_of_path_dependencies_are_repointed() {
        let mut document: DocumentMut = r#"
            [dependencies]
            a = { path = "/x/a" }
            b = "1"
            [dev-dependencies.c]
            path = "/x/c"
            [target."cfg(unix)".dependencies]
            d = { version = "1", path = "/x/d" }
            [workspace.dependencies]
            e = { path = "inside" }
            [patch.crates-io]
            f = { path = "/x/f" }
        "#
        .parse()
        .unwrap();
        let place = |path: &str| Ok(path.strip_prefix("/x").map(|path| format!("moved{path}")));
        visit(document.as_table_mut(), &place).unwrap();
        let text = document.to_string();
        for name in ["a", "c", "d", "f"] {
            assert!(
                text.contains(&format!("\"moved/{name}\"")),
                "{name}: {text}"
            );
        }
        assert!(text.contains("\"inside\""), "{text}");
    }
}
