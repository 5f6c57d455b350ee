//! Compares a generation with the local directories, and moves staged files to their paths.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::cache::manifest::{FileEntry, Root, Roots};
use crate::cache::report::{CacheError, Hydrated};
use crate::cache::tree::{Directory, FileStat, RealFolders};

use super::MissingFiles;

/// Files and links, by directory and path, whose local version differs from the generation's after hydrating.
#[derive(Debug, Default)]
pub(super) struct LocalChanges(Vec<(String, String)>);

impl LocalChanges {
    fn add(&mut self, directory: &Directory, path: &str) {
        self.0.push((directory.name.clone(), path.to_owned()));
    }

    /// Removes these files and links from the content of a generation.
    pub(super) fn remove_from(self, roots: &mut Roots) {
        for (directory, path) in self.0 {
            if let Some(root) = roots.get_mut(&directory) {
                root.files.remove(&path);
                root.links.remove(&path);
            }
        }
    }
}

/// The state of a file's path in a local directory.
#[derive(Debug, PartialEq, Eq)]
enum LocalFile {
    /// Nothing, or an older file.
    Missing,
    /// The same file.
    Same,
    /// A newer file, or something other than a file.
    Different,
}

/// Returns the files to copy. Keeps a local file that is the same or newer, and anything else at a file's path.
pub(super) fn missing_files<'a>(
    directory: &Directory,
    root: &'a Root,
    hydrated: &mut Hydrated,
    changes: &mut LocalChanges,
) -> Result<Vec<(&'a str, &'a FileEntry)>, CacheError> {
    let mut folders = RealFolders::below(&directory.path);
    let is_new = !directory.path.exists();
    let mut missing = Vec::new();
    for (path, entry) in &root.files {
        let local = if is_new {
            LocalFile::Missing
        } else {
            let local = directory.path.join(path);
            look_up(&local, path, entry, &mut folders).map_err(CacheError::at(&local))?
        };
        match local {
            LocalFile::Missing => {
                missing.push((path.as_str(), entry));
                continue;
            }
            LocalFile::Same => {}
            LocalFile::Different => changes.add(directory, path),
        }
        hydrated.kept += 1;
    }
    Ok(missing)
}

fn look_up(
    local: &Path,
    path: &str,
    entry: &FileEntry,
    folders: &mut RealFolders<'_>,
) -> io::Result<LocalFile> {
    if !folders.allow(path)? {
        return Ok(LocalFile::Different);
    }
    match fs::symlink_metadata(local) {
        Ok(metadata) if metadata.is_file() => {
            let stamp = FileStat::of(&metadata).stamp;
            Ok(if stamp == entry.stamp() {
                LocalFile::Same
            } else if stamp.mtime > entry.mtime {
                LocalFile::Different
            } else {
                LocalFile::Missing
            })
        }
        Ok(_) => Ok(LocalFile::Different),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(LocalFile::Missing),
        Err(error) => Err(error),
    }
}

/// Moves staged files to their paths. Skips a file if its parent folder is a file, locally or in the same generation.
pub(super) fn place_files(
    missing: &MissingFiles<'_>,
    hydrated: &mut Hydrated,
    changes: &mut LocalChanges,
) -> Result<(), CacheError> {
    let MissingFiles {
        directory,
        staging,
        files,
        ..
    } = missing;
    let mut folders = RealFolders::below(&directory.path);
    for (number, (path, entry)) in files.iter().enumerate() {
        let local = directory.path.join(path);
        if !folders.make(path).map_err(CacheError::at(&local))? {
            hydrated.kept += 1;
            changes.add(directory, path);
            continue;
        }
        fs::rename(staging.file(number), &local).map_err(CacheError::at(&local))?;
        hydrated.files += 1;
        hydrated.bytes += entry.size;
    }
    Ok(())
}

/// Creates missing links, and returns their number.
pub(super) fn place_links(
    directory: &Directory,
    root: &Root,
    changes: &mut LocalChanges,
) -> Result<u64, CacheError> {
    let mut folders = RealFolders::below(&directory.path);
    let mut created = 0;
    for (path, target) in &root.links {
        let local = directory.path.join(path);
        let mut link = || -> io::Result<bool> {
            if !folders.make(path)? {
                return Ok(false);
            }
            match std::os::unix::fs::symlink(target, &local) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                done => Ok(done.is_ok()),
            }
        };
        if link().map_err(CacheError::at(&local))? {
            created += 1;
        } else if !fs::read_link(&local).is_ok_and(|to| to == Path::new(target)) {
            changes.add(directory, path);
        }
    }
    Ok(created)
}
