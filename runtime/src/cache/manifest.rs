//! The manifest of a generation. The file has two lines: a header with the format version and a checksum, and the
//! content.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::net::sha256::Sum;

/// The format version. Increased by every change that this code would misread.
pub(super) const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "podwork-cache")]
    format: u32,
    #[serde(default)]
    sha256: Option<Sum>,
}

/// The content of a generation: its files, and the objects that contain their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The length of each object in bytes, by name.
    pub(super) objects: BTreeMap<String, u64>,
    /// The cached directories.
    pub(super) roots: Roots,
}

/// The content of the cached directories, by directory name.
pub(super) type Roots = BTreeMap<String, Root>;

/// The content of one cached directory, by path relative to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Root {
    pub(super) files: BTreeMap<String, FileEntry>,
    /// The target of each symbolic link.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) links: BTreeMap<String, String>,
}

/// A file of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    pub(super) size: u64,
    /// Modification time, in nanoseconds since 1970.
    pub(super) mtime: i64,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) sha256: Sum,
    /// The object that contains its bytes.
    pub(super) object: String,
    /// Offset of its bytes in the object.
    pub(super) at: u64,
}

/// The size and modification time of a file. A file with the same stamp counts as unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    /// Modification time, in nanoseconds since 1970.
    pub(super) mtime: i64,
}

impl FileEntry {
    pub(super) fn stamp(&self) -> Stamp {
        let Self { size, mtime, .. } = *self;
        Stamp { size, mtime }
    }
}

/// The reason why a manifest is unusable.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ManifestError {
    /// The manifest has a newer format, with this version.
    Newer(u32),
    /// The manifest is damaged, for this reason.
    Damaged(String),
}

impl Manifest {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let json = |value: serde_json::Result<Vec<u8>>| value.expect("all keys are strings");
        let body = json(serde_json::to_vec(self));
        let header = Header {
            format: FORMAT,
            sha256: Some(Sum::of(&body)),
        };
        let mut bytes = json(serde_json::to_vec(&header));
        bytes.push(b'\n');
        bytes.extend(body);
        bytes.push(b'\n');
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let damaged = |problem: &str| ManifestError::Damaged(problem.to_owned());
        let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
        let header = lines.next().unwrap_or_default();
        let header: Header =
            serde_json::from_slice(header).map_err(|_| damaged("the header is invalid"))?;
        if header.format > FORMAT {
            return Err(ManifestError::Newer(header.format));
        }
        let body = lines.next().and_then(|rest| rest.strip_suffix(b"\n"));
        let body = body.ok_or_else(|| damaged("the file is incomplete"))?;
        if header.sha256 != Some(Sum::of(body)) {
            return Err(damaged("the checksum does not match"));
        }
        let manifest: Self = serde_json::from_slice(body)
            .map_err(|error| ManifestError::Damaged(error.to_string()))?;
        manifest.check().map_err(ManifestError::Damaged)?;
        Ok(manifest)
    }

    /// Checks that no name leads out of the cache or the cached directories: anyone may have written the manifest.
    fn check(&self) -> Result<(), String> {
        if let Some(name) = self.objects.keys().find(|name| !is_object(name)) {
            return Err(format!("invalid object name `{name}`"));
        }
        for (directory, root) in &self.roots {
            if !Path::new(directory).is_absolute() {
                return Err(format!("directory `{directory}` is not an absolute path"));
            }
            for (path, entry) in &root.files {
                let end = entry.at.checked_add(entry.size);
                let len = self.objects.get(&entry.object);
                if !is_inner(path) || end.is_none() || end.as_ref() > len {
                    return Err(format!("invalid file `{path}` in `{directory}`"));
                }
            }
            for (path, target) in &root.links {
                if !is_inner(path) || !stays_inside(path, target) || root.files.contains_key(path) {
                    return Err(format!("invalid link `{path}` in `{directory}`"));
                }
            }
        }
        Ok(())
    }

    /// Adds a file, and the object that contains it.
    pub(super) fn insert(&mut self, directory: &str, path: String, entry: FileEntry, len: u64) {
        self.objects.insert(entry.object.clone(), len);
        let root = self.roots.entry(directory.to_owned()).or_default();
        root.files.insert(path, entry);
    }
}

/// Returns whether this is `<batch>/<file>`, with names such as the cache assigns.
fn is_object(name: &str) -> bool {
    let plain = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(allowed)
    };
    name.split_once('/')
        .is_some_and(|(batch, file)| plain(batch) && plain(file))
}

/// Returns whether a path is relative, normalized and without `..`.
fn is_inner(path: &str) -> bool {
    !path.is_empty()
        && !path.contains('\0')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Returns whether a link at `path` stays in its directory: its target goes up at most to the top, and then down.
pub(super) fn stays_inside(path: &str, target: &str) -> bool {
    let depth = path.split('/').count() - 1;
    let mut ups = 0;
    let mut downs = 0;
    for component in Path::new(target).components() {
        match component {
            Component::ParentDir if downs == 0 => ups += 1,
            Component::Normal(_) => downs += 1,
            Component::CurDir => {}
            _ => return false,
        }
    }
    downs > 0 && ups <= depth && !target.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut manifest = Manifest::default();
        let entry = FileEntry {
            size: 5,
            mtime: -7,
            mode: 0o644,
            sha256: Sum::of(b"bytes"),
            object: "a1/0.tar".to_owned(),
            at: 512,
        };
        manifest.insert("/cache", "deep/file".to_owned(), entry, 1024);
        let root = manifest.roots.get_mut("/cache").unwrap();
        root.links.insert("deep/link".into(), "../file".into());
        manifest
    }

    #[test]
    fn a_written_manifest_is_read_unchanged() {
        let bytes = manifest().to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes).unwrap(), manifest());
        let header = r#"{"podwork-cache":1,"sha256":""#;
        assert!(bytes.starts_with(header.as_bytes()));
    }

    #[test]
    fn every_changed_byte_of_a_manifest_is_detected() {
        let good = manifest().to_bytes();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            if let Ok(read) = Manifest::from_bytes(&bad) {
                // Some changes are harmless, such as an older format version in the header.
                assert_eq!(read, manifest(), "{place}");
            }
            let torn = Manifest::from_bytes(&good[..place]);
            assert!(matches!(torn, Err(ManifestError::Damaged(_))), "{place}");
        }
    }

    #[test]
    fn a_newer_manifest_format_is_reported() {
        let bytes = b"{\"podwork-cache\":2,\"blake\":\"x\"}\nanything";
        assert_eq!(Manifest::from_bytes(bytes), Err(ManifestError::Newer(2)));
    }

    #[test]
    fn paths_in_a_manifest_cannot_leave_the_folder() {
        type Change = fn(&mut Manifest);
        let entry = |manifest: &mut Manifest, change: fn(&mut FileEntry)| {
            let root = manifest.roots.get_mut("/cache").unwrap();
            change(root.files.get_mut("deep/file").unwrap());
        };
        let changes: &[(&str, Change)] = &[
            ("absolute", |m| rename(m, "/etc/passwd")),
            ("up", |m| rename(m, "a/../../b")),
            ("empty", |m| rename(m, "a//b")),
            ("here", |m| rename(m, ".")),
            ("nothing", |m| rename(m, "")),
            ("a zero", |m| rename(m, "a\0b")),
            ("relative root", |m| {
                let root = m.roots.remove("/cache").unwrap();
                m.roots.insert("cache".into(), root);
            }),
            ("object", |m| {
                m.objects.insert("../x".into(), 9);
            }),
            ("hidden object", |m| {
                m.objects.insert("a/.x".into(), 9);
            }),
            ("link to /", |m| link(m, "a", "/etc")),
            ("link up", |m| link(m, "a", "../b")),
            ("link up and down", |m| link(m, "a/b", "c/../d")),
            ("link to itself", |m| link(m, "a", "..")),
            ("link to here", |m| link(m, "a", "./")),
            ("link over a file", |m| link(m, "deep/file", "b")),
        ];
        for (what, change) in changes {
            let mut bad = manifest();
            change(&mut bad);
            assert!(bad.check().is_err(), "{what}");
        }
        for change in [
            (|e| e.at = 1020) as fn(&mut FileEntry),
            |e| e.at = u64::MAX,
            |e| e.object = "b/0.tar".to_owned(),
        ] {
            let mut bad = manifest();
            entry(&mut bad, change);
            assert!(bad.check().is_err());
        }
        let mut good = manifest();
        link(&mut good, "a/b", "./c");
        assert_eq!(good.check(), Ok(()));
    }

    fn rename(manifest: &mut Manifest, name: &str) {
        let root = manifest.roots.get_mut("/cache").unwrap();
        let entry = root.files.remove("deep/file").unwrap();
        root.files.insert(name.to_owned(), entry);
    }

    fn link(manifest: &mut Manifest, path: &str, target: &str) {
        let root = manifest.roots.get_mut("/cache").unwrap();
        root.links.insert(path.to_owned(), target.to_owned());
    }
}
