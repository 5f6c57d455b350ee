//! Lookup of Hugging Face models that the platform or Hugging Face's own tools have downloaded.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::config::given;

/// The folder where the platform stores cached models.
const HUB: &str = "/runpod-volume/huggingface-cache/hub";
/// The variable of Hugging Face's library that sets the cache folder.
const HF_HUB_CACHE: &str = "HF_HUB_CACHE";
/// The earlier name of [`HF_HUB_CACHE`].
const HUGGINGFACE_HUB_CACHE: &str = "HUGGINGFACE_HUB_CACHE";
/// The variable of Hugging Face's library that sets the parent of the cache folder `hub`.
const HF_HOME: &str = "HF_HOME";

/// The reason why a cached model was not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The name of a repository or a revision is invalid.
    #[error("invalid {what} `{name}`: expected a value such as {example}")]
    Name {
        /// The invalid name.
        name: String,
        /// The kind of name: a repository name or a revision.
        what: &'static str,
        /// A valid example.
        example: &'static str,
    },

    /// The repository is not in the cache.
    #[error(
        "{repository} is not cached in {}: set it as the endpoint's model, or set HF_HUB_CACHE to the cache that \
         contains it",
        .hub.display()
    )]
    NotCached {
        /// The repository.
        repository: String,
        /// The cache folder that was searched.
        hub: PathBuf,
    },

    /// The repository is in the cache, but not this revision.
    #[error(
        "{repository} is cached in {} without revision `{revision}`: use a cached revision ({})",
        .hub.display(),
        .cached.join(", ")
    )]
    NoRevision {
        /// The repository.
        repository: String,
        /// The requested revision.
        revision: String,
        /// The cache folder that was searched.
        hub: PathBuf,
        /// The revisions in the cache.
        cached: Vec<String>,
    },

    /// A file or folder cannot be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Returns the folder with the files of a Hugging Face repository that is already downloaded, either by the platform as
/// the endpoint's model, or by Hugging Face's own tools.
///
/// `revision` is a branch, a tag or a commit hash. Default: `main`. If the cache has no `main`, the default is the only
/// revision in the cache, since a download by commit hash creates no branch.
///
/// The cache folder is the first of these that is set: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, and `hub` in `HF_HOME`.
/// This is the order of Hugging Face's own library. Default: `/runpod-volume/huggingface-cache/hub`, where the platform
/// stores cached models. If no folder has the repository's exact name, this function uses a folder whose name differs
/// only in case, provided there is only one.
///
/// # Errors
/// Returns an error if a name is invalid, if the repository or the revision is not in the cache, or if the cache cannot
/// be read.
///
/// ```no_run
/// let model = podwork::cache::huggingface_snapshot("openai/whisper-tiny", None)?;
/// let weights = std::fs::read(model.join("model.safetensors"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn huggingface_snapshot(
    repository: &str,
    revision: Option<&str>,
) -> Result<PathBuf, SnapshotError> {
    huggingface_snapshot_in(hub(|name| std::env::var(name).ok()), repository, revision)
}

/// Searches the cache folder `hub`, which contains the folders `models--…`, in the same way as
/// [`huggingface_snapshot`].
///
/// # Errors
/// Returns an error if a name is invalid, if the repository or the revision is not in the cache, or if the cache cannot
/// be read.
pub fn huggingface_snapshot_in(
    hub: impl Into<PathBuf>,
    repository: &str,
    revision: Option<&str>,
) -> Result<PathBuf, SnapshotError> {
    let hub = hub.into();
    let folder = model_folder(repository)?;
    let name = revision.unwrap_or("main");
    if !name.split('/').all(is_plain) {
        return Err(SnapshotError::Name {
            name: name.to_owned(),
            what: "revision",
            example: "`main`, `v1.0` or a commit hash",
        });
    }
    let model = find_folder(&hub, &folder);
    let snapshots = model.join("snapshots");
    let Some(cached) = list_names(&snapshots)? else {
        return Err(SnapshotError::NotCached {
            repository: repository.to_owned(),
            hub,
        });
    };
    let commit = match (read_reference(&model, name)?, revision, &cached[..]) {
        (Some(commit), ..) => commit,
        (None, None, [only]) => only.clone(),
        (None, ..) => name.to_owned(),
    };
    if cached.contains(&commit) {
        return Ok(snapshots.join(commit));
    }
    Err(SnapshotError::NoRevision {
        repository: repository.to_owned(),
        revision: name.to_owned(),
        hub,
        cached,
    })
}

/// Returns the folder name of a repository, such as `models--openai--whisper-tiny`.
fn model_folder(repository: &str) -> Result<String, SnapshotError> {
    let parts: Vec<&str> = repository.split('/').collect();
    if parts.len() > 2 || !parts.iter().all(|part| is_plain(part)) {
        return Err(SnapshotError::Name {
            name: repository.to_owned(),
            what: "repository name",
            example: "`openai/whisper-tiny`",
        });
    }
    Ok(format!("models--{}", parts.join("--")))
}

/// Returns the folder with this name, or else the only one whose name differs just in case.
fn find_folder(hub: &Path, name: &str) -> PathBuf {
    let exact = hub.join(name);
    if exact.exists() {
        return exact;
    }
    let entries = fs::read_dir(hub).into_iter().flatten().flatten();
    let mut alike = entries.filter(|entry| entry.file_name().eq_ignore_ascii_case(name));
    match (alike.next(), alike.next()) {
        (Some(only), None) => only.path(),
        _ => exact,
    }
}

/// Returns the sorted names in a folder, or `None` if the folder does not exist.
fn list_names(folder: &Path) -> Result<Option<Vec<String>>, SnapshotError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.flatten(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(folder, error)),
    };
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(Some(names))
}

/// Returns the commit of a branch or tag, or `None` if no branch or tag has this name.
fn read_reference(model: &Path, name: &str) -> Result<Option<String>, SnapshotError> {
    let reference = model.join("refs").join(name);
    match fs::read_to_string(&reference) {
        Ok(commit) => Ok(Some(commit.trim().to_owned())),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory => Ok(None),
            _ => Err(failed(&reference, error)),
        },
    }
}

fn failed(path: &Path, source: io::Error) -> SnapshotError {
    SnapshotError::File {
        path: path.to_owned(),
        source,
    }
}

/// Returns the cache folder that the environment selects.
fn hub(lookup: impl Fn(&str) -> Option<String>) -> PathBuf {
    let given = |name| {
        let path = given(&lookup, name)?;
        let home = path.strip_prefix("~/").zip(lookup("HOME"));
        Some(home.map_or_else(
            || path.clone().into(),
            |(rest, home)| Path::new(&home).join(rest),
        ))
    };
    given(HF_HUB_CACHE)
        .or_else(|| given(HUGGINGFACE_HUB_CACHE))
        .or_else(|| Some(given(HF_HOME)?.join("hub")))
        .unwrap_or_else(|| HUB.into())
}

/// Returns whether this is a single folder name, which cannot lead to another folder.
fn is_plain(part: &str) -> bool {
    !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_hugging_face_take_precedence() {
        let hub_of = |table: &[(&str, &str)]| {
            let find = |name: &str| table.iter().find(|(key, _)| *key == name);
            hub(|name| find(name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(hub_of(&[]), Path::new(HUB));
        assert_eq!(hub_of(&[(HF_HOME, "/h")]), Path::new("/h/hub"));
        let both = [(HF_HOME, "/h"), (HF_HUB_CACHE, "/c")];
        assert_eq!(hub_of(&both), Path::new("/c"));
        let older = [(HF_HOME, "/h"), (HUGGINGFACE_HUB_CACHE, "/o")];
        assert_eq!(hub_of(&older), Path::new("/o"));
        let names = [(HUGGINGFACE_HUB_CACHE, "/o"), (HF_HUB_CACHE, "/c")];
        assert_eq!(hub_of(&names), Path::new("/c"));
        let home = [("HOME", "/me"), (HF_HOME, "~/h")];
        assert_eq!(hub_of(&home), Path::new("/me/h/hub"));
        assert_eq!(hub_of(&[(HF_HUB_CACHE, " ")]), Path::new(HUB));
    }

    #[test]
    fn a_snapshot_is_found_by_branch_and_by_hash() {
        let hub = tempfile::tempdir().unwrap();
        let model = hub.path().join("models--openai--whisper-tiny");
        let find = |revision| huggingface_snapshot_in(hub.path(), "openai/whisper-tiny", revision);
        let missing = find(None).unwrap_err();
        assert!(matches!(missing, SnapshotError::NotCached { .. }));
        assert!(
            missing
                .to_string()
                .starts_with("openai/whisper-tiny is not cached in ")
        );

        fs::create_dir_all(model.join("snapshots/abc123")).unwrap();
        fs::create_dir_all(model.join("refs/pr")).unwrap();
        fs::write(model.join("refs/main"), "abc123\n").unwrap();
        fs::write(model.join("refs/pr/1"), "gone").unwrap();
        let expected = model.join("snapshots/abc123");
        assert_eq!(find(None).unwrap(), expected);
        assert_eq!(find(Some("main")).unwrap(), expected);
        assert_eq!(find(Some("abc123")).unwrap(), expected);
        for revision in ["pr/1", "pr", "v2", "main/x"] {
            let error = find(Some(revision)).unwrap_err();
            let SnapshotError::NoRevision { cached, .. } = &error else {
                panic!("{revision}: {error}");
            };
            assert_eq!(cached, &["abc123"], "{revision}");
        }
    }

    #[test]
    fn a_download_by_hash_needs_no_branch() {
        let hub = tempfile::tempdir().unwrap();
        let snapshots = hub.path().join("models--a--b/snapshots");
        fs::create_dir_all(snapshots.join("abc")).unwrap();
        let find = |revision| huggingface_snapshot_in(hub.path(), "a/b", revision);
        assert_eq!(find(None).unwrap(), snapshots.join("abc"));
        find(Some("main")).unwrap_err();
        fs::create_dir(snapshots.join("def")).unwrap();
        find(None).unwrap_err();
    }

    #[test]
    fn a_name_in_another_case_is_found_if_it_is_the_only_one() {
        let hub = tempfile::tempdir().unwrap();
        let make = |name| {
            let snapshot = hub.path().join(name).join("snapshots/abc");
            fs::create_dir_all(&snapshot).unwrap();
            snapshot
        };
        let find = || huggingface_snapshot_in(hub.path(), "Gensyn/Qwen2.5", None);
        let lower = make("models--gensyn--qwen2.5");
        assert_eq!(find().unwrap(), lower);
        make("models--GENSYN--qwen2.5");
        find().unwrap_err();
        let exact = make("models--Gensyn--Qwen2.5");
        assert_eq!(find().unwrap(), exact);
    }

    #[test]
    fn model_names_cannot_leave_the_cache() {
        for name in ["", "..", "a/../b", "a/b/c", "/etc", "a/", "a/b:main"] {
            let error = huggingface_snapshot_in("/", name, None).unwrap_err();
            assert!(matches!(error, SnapshotError::Name { .. }), "{name}");
        }
        for revision in ["", "..", "../x", "/etc/passwd"] {
            let error = huggingface_snapshot_in("/", "a/b", Some(revision)).unwrap_err();
            assert!(matches!(error, SnapshotError::Name { .. }), "{revision}");
        }
    }
}
