//! Models of Hugging Face that the platform, or the hub's own tools, have downloaded.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::config::given;

/// Where the platform keeps cached models.
const HUB: &str = "/runpod-volume/huggingface-cache/hub";
/// What the hub's own library goes by: the folder itself, …
const HF_HUB_CACHE: &str = "HF_HUB_CACHE";
/// … by its name of before, …
const HUGGINGFACE_HUB_CACHE: &str = "HUGGINGFACE_HUB_CACHE";
/// … or the folder above.
const HF_HOME: &str = "HF_HOME";

/// Why a model's files are not to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It is no name of a repository, or of a revision.
    #[error("`{name}` is no {what}, such as {example}")]
    Name {
        /// What was given.
        name: String,
        /// What it should be.
        what: &'static str,
        /// … for example.
        example: &'static str,
    },

    /// Nothing of the repository is there.
    #[error(
        "{repository} is not in {}: name it as the endpoint's model, or set HF_HUB_CACHE to where it is", .hub.display()
    )]
    NotCached {
        /// The repository.
        repository: String,
        /// Where it was looked for.
        hub: PathBuf,
    },

    /// The repository is there, and not this revision of it.
    #[error("{repository} is in {}, but not its revision `{revision}`; there is: {}", .hub.display(), .there.join(", "))]
    NoRevision {
        /// The repository.
        repository: String,
        /// The revision.
        revision: String,
        /// Where it was looked for.
        hub: PathBuf,
        /// The snapshots that are there.
        there: Vec<String>,
    },

    /// It cannot be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The folder with the files of a Hugging Face repository that was downloaded before: by the platform, for the model that
/// an endpoint names, or by the hub's own tools. The revision is a branch, a tag or a commit's hash; `main` unless it is
/// given.
///
/// It is looked for in `HF_HUB_CACHE`, else in `HUGGINGFACE_HUB_CACHE`, else in `hub` in `HF_HOME`, as the hub's own library
/// does; if none is set, in `/runpod-volume/huggingface-cache/hub`, where the platform keeps cached models. A folder whose
/// name differs in upper and lower case alone will do, if there is but one. Where no revision is given, nor known which is
/// `main`, the only one that is there is taken: a download by a commit's hash leaves no branch.
///
/// # Errors
/// It is not there, or not in this revision; or these are no names.
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

/// The same, in this folder: the one that has `models--…` in it.
///
/// # Errors
/// As above.
pub fn huggingface_snapshot_in(
    hub: impl Into<PathBuf>,
    repository: &str,
    revision: Option<&str>,
) -> Result<PathBuf, SnapshotError> {
    let hub = hub.into();
    let given = revision;
    let revision = given.unwrap_or("main");
    let parts: Vec<&str> = repository.split('/').collect();
    if parts.len() > 2 || !parts.iter().all(|part| is_plain(part)) {
        return Err(SnapshotError::Name {
            name: repository.to_owned(),
            what: "name of a repository",
            example: "`openai/whisper-tiny`",
        });
    }
    if !revision.split('/').all(is_plain) {
        return Err(SnapshotError::Name {
            name: revision.to_owned(),
            what: "revision",
            example: "`main`, `v1.0` or a commit's hash",
        });
    }
    let model = folder_of(&hub, &format!("models--{}", parts.join("--")));
    let snapshots = model.join("snapshots");
    let there = match fs::read_dir(&snapshots) {
        Ok(entries) => entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(SnapshotError::NotCached {
                repository: repository.to_owned(),
                hub,
            });
        }
        Err(error) => return Err(failed(&snapshots, error)),
    };
    let mut there: Vec<String> = there.collect();
    there.sort();
    let reference = model.join("refs").join(revision);
    let commit = match fs::read_to_string(&reference) {
        Ok(commit) => commit.trim().to_owned(),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory
            ) =>
        {
            match (given, &there[..]) {
                (None, [only]) => only.clone(),
                _ => revision.to_owned(),
            }
        }
        Err(error) => return Err(failed(&reference, error)),
    };
    if there.contains(&commit) {
        return Ok(snapshots.join(commit));
    }
    Err(SnapshotError::NoRevision {
        repository: repository.to_owned(),
        revision: revision.to_owned(),
        hub,
        there,
    })
}

/// The folder of this name, or the only one that differs in case alone.
fn folder_of(hub: &Path, name: &str) -> PathBuf {
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

fn failed(path: &Path, source: io::Error) -> SnapshotError {
    SnapshotError::File {
        path: path.to_owned(),
        source,
    }
}

/// Where repositories are.
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

/// One name of a folder, which leads nowhere else.
fn is_plain(part: &str) -> bool {
    !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_own_variables_win() {
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
                .starts_with("openai/whisper-tiny is not in ")
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
            let SnapshotError::NoRevision { there, .. } = &error else {
                panic!("{revision}: {error}");
            };
            assert_eq!(there, &["abc123"], "{revision}");
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
    fn names_lead_nowhere_else() {
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
