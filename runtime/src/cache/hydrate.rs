//! From the volume to the local directories: nothing before all of a generation has been read and checked.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use ring::digest::{Context as Hash, SHA256};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::net::sha256::Sum;

use super::manifest::{Entry, Manifest, Root};
use super::parallel::{each, first};
use super::report::{CacheError, Hydrated};
use super::store::{Bad, Lost, Store, is_broken};
use super::tree::{Directory, Folders, Found, Staging, dress};

/// Bytes that are read at once.
const SPAN: u64 = 1024 * 1024;
/// Bytes of others that are read along rather than left out: asking once more takes as long.
const GAP: u64 = 128 * 1024;
/// Bytes of a longer file that are copied at once: so few that they stay in a core's cache until they are written.
const CHUNK: usize = 256 * 1024;
/// How often it begins anew, when what it reads is swept away by workers that sync.
const TRIES: usize = 5;

/// How a file comes to its place.
struct Wanted<'a> {
    directory: &'a Directory,
    staging: &'a Staging,
    number: usize,
    path: &'a str,
    entry: &'a Entry,
}

/// Files and links that are not in their place, by directory and path.
type Others = Vec<(String, String)>;

/// Files that lie together in one object, and are read at once.
struct Span<'a> {
    object: &'a str,
    at: u64,
    end: u64,
    files: Vec<Wanted<'a>>,
}

/// What the directories hold of a generation.
type Held = BTreeMap<String, Root>;

/// Brings what is missing; what was done, and what is there now. Objects that are found to be damaged are noted.
pub(super) fn hydrate(
    store: &Store,
    directories: &[Directory],
    threads: usize,
    bad: &mut Bad,
    stop: &CancellationToken,
) -> Result<(Hydrated, Option<Held>), CacheError> {
    let mut tries = 0;
    let mut generations = store.generations()?;
    'anew: loop {
        let mut problem = None;
        for &generation in &generations {
            let trouble = match store.read(generation) {
                Ok(Some(manifest)) => match bring(store, manifest, directories, threads, stop) {
                    Ok((mut hydrated, held)) => {
                        hydrated.generation = Some(generation);
                        hydrated.problem = problem;
                        return Ok((hydrated, Some(held)));
                    }
                    Err(trouble) => trouble,
                },
                Ok(None) => Trouble::Swept,
                Err(error @ CacheError::Newer { .. }) => return Err(error),
                Err(error) => Trouble::Unread(error),
            };
            if trouble.is_swept() {
                let now = store.generations()?;
                if now.first() != generations.first() && tries < TRIES {
                    tries += 1;
                    generations = now;
                    continue 'anew;
                }
            }
            let error = match trouble {
                Trouble::Swept => continue,
                Trouble::Lost(lost) => note(store, lost, bad),
                Trouble::Unread(error) => error,
                Trouble::Other(error) => return Err(error),
            };
            warn!("generation {generation} of the cache cannot be used: {error}");
            // The latest says most.
            problem = problem.or(Some(error));
        }
        let hydrated = Hydrated {
            problem,
            ..Hydrated::default()
        };
        return Ok((hydrated, None));
    }
}

enum Trouble {
    /// The manifest is not there any more, …
    Swept,
    /// … or cannot be read.
    Unread(CacheError),
    Lost(LostObjects),
    Other(CacheError),
}

/// Objects that cannot be read.
struct LostObjects {
    objects: Vec<(String, Lost)>,
    /// Others can: it is not the volume that fails.
    others_read: bool,
}

impl Trouble {
    /// Whether it may be that others have synced meanwhile.
    fn is_swept(&self) -> bool {
        match self {
            Self::Swept => true,
            Self::Lost(lost) => {
                let mut objects = lost.objects.iter();
                objects.any(|(_, why)| matches!(why, Lost::Gone))
            }
            Self::Unread(_) | Self::Other(_) => false,
        }
    }
}

impl From<CacheError> for Trouble {
    fn from(error: CacheError) -> Self {
        Self::Other(error)
    }
}

/// Notes what cannot be used; the error to tell.
fn note(store: &Store, lost: LostObjects, bad: &mut Bad) -> CacheError {
    let mut first = None;
    for (object, why) in lost.objects {
        let path = store.object(&object);
        let error = match why {
            Lost::Failed(error) => {
                if lost.others_read && is_broken(&error) {
                    bad.unread.insert(object);
                }
                CacheError::at(&path)(error)
            }
            Lost::Gone | Lost::Damaged(_) => {
                bad.damaged.insert(object);
                let problem = match why {
                    Lost::Damaged(problem) => problem,
                    _ => "it is not there".to_owned(),
                };
                CacheError::Damaged { path, problem }
            }
        };
        first.get_or_insert(error);
    }
    first.expect("there is one at least")
}

/// Brings a generation's files: all are read and checked before the first is put in its place.
fn bring(
    store: &Store,
    mut manifest: Manifest,
    directories: &[Directory],
    threads: usize,
    stop: &CancellationToken,
) -> Result<(Hydrated, Held), Trouble> {
    let mut hydrated = Hydrated::default();
    // Files and links that are others here, or cannot be.
    let mut others = Vec::new();
    let mut missing = Vec::new();
    for directory in directories {
        let Some(root) = manifest.roots.get(&directory.name) else {
            continue;
        };
        let files = missing_files(directory, root, &mut hydrated, &mut others)?;
        let staging = directory.staging(!files.is_empty())?;
        missing.push((directory, root, staging, files));
    }
    let mut wanted = Vec::new();
    for (directory, _, staging, files) in &missing {
        let files = files.iter().enumerate();
        wanted.extend(files.map(|(number, (path, entry))| Wanted {
            directory,
            staging,
            number,
            path,
            entry,
        }));
    }
    let spans = spans(wanted);
    let read = each(threads, stop, &spans, |buffer, span| {
        let len = manifest.objects[span.object];
        let staged = match store.open_object(span.object, len) {
            Ok(object) => stage(span, &object, buffer, stop)?,
            Err(lost) => Err(lost),
        };
        Ok(staged.err().map(|lost| (span.object.to_owned(), lost)))
    })?;
    let objects: Vec<_> = read.into_iter().flatten().collect();
    if !objects.is_empty() {
        let others_read = objects.len() < spans.len();
        return Err(Trouble::Lost(LostObjects {
            objects,
            others_read,
        }));
    }
    // From here on each file is whole, wherever this ends.
    for (directory, root, staging, files) in &missing {
        place(directory, staging, files, &mut hydrated, &mut others)?;
        hydrated.files += place_links(directory, root, &mut others)?;
    }
    for (directory, path) in others {
        if let Some(root) = manifest.roots.get_mut(&directory) {
            root.files.remove(&path);
            root.links.remove(&path);
        }
    }
    Ok((hydrated, manifest.roots))
}

/// The files that are to be brought. What is there is left if it is the same, or newer, or no file.
fn missing_files<'a>(
    directory: &Directory,
    root: &'a Root,
    hydrated: &mut Hydrated,
    others: &mut Others,
) -> Result<Vec<(&'a str, &'a Entry)>, CacheError> {
    let mut folders = Folders::below(&directory.path);
    let is_new = !directory.path.exists();
    let mut missing = Vec::new();
    for (path, entry) in &root.files {
        let there = directory.path.join(path);
        if is_new {
            missing.push((path.as_str(), entry));
            continue;
        }
        let mut is_same = false;
        let is_kept = if folders.allow(path).map_err(CacheError::at(&there))? {
            match fs::symlink_metadata(&there) {
                Ok(found) if found.is_file() => {
                    let found = Found::of(&found).stamp;
                    is_same = found == entry.stamp();
                    is_same || found.mtime > entry.mtime
                }
                Ok(_) => true,
                Err(error) if error.kind() == ErrorKind::NotFound => false,
                Err(error) => return Err(CacheError::at(&there)(error)),
            }
        } else {
            true
        };
        if !is_kept {
            missing.push((path.as_str(), entry));
            continue;
        }
        hydrated.kept += 1;
        if !is_same {
            others.push((directory.name.clone(), path.clone()));
        }
    }
    Ok(missing)
}

/// Puts files together that lie together.
fn spans(mut wanted: Vec<Wanted<'_>>) -> Vec<Span<'_>> {
    wanted.sort_by(|a, b| (&a.entry.object, a.entry.at).cmp(&(&b.entry.object, b.entry.at)));
    let mut spans: Vec<Span<'_>> = Vec::new();
    for file in wanted {
        let (at, end) = (file.entry.at, file.entry.at + file.entry.size);
        match spans.last_mut() {
            Some(span)
                if span.object == file.entry.object
                    && at <= span.end.saturating_add(GAP)
                    && end.max(span.end).saturating_sub(span.at) <= SPAN =>
            {
                span.end = span.end.max(end);
                span.files.push(file);
            }
            _ => spans.push(Span {
                object: &file.entry.object,
                at,
                end,
                files: vec![file],
            }),
        }
    }
    // The longest first, so that the last to end is a short one.
    spans.sort_by_key(|span| std::cmp::Reverse(span.end - span.at));
    spans
}

/// Reads a span's files, checks them, and writes them where they wait.
fn stage(
    span: &Span<'_>,
    object: &File,
    buffer: &mut Vec<u8>,
    stop: &CancellationToken,
) -> Result<Result<(), Lost>, CacheError> {
    if let [file] = &span.files[..]
        && file.entry.size > SPAN
    {
        return stage_long(file, object, buffer, stop);
    }
    let bytes = first(buffer, length(span.end - span.at));
    if let Err(error) = object.read_exact_at(bytes, span.at) {
        return Ok(Err(unread(error)));
    }
    for file in &span.files {
        let begin = length(file.entry.at - span.at);
        let bytes = &bytes[begin..begin + length(file.entry.size)];
        if Sum::of(bytes) != file.entry.sha256 {
            return Ok(Err(changed(file)));
        }
        let path = file.staging.file(file.number);
        create(&path)
            .and_then(|mut new| {
                new.write_all(bytes)?;
                dress(&new, file.entry)
            })
            .map_err(CacheError::at(&path))?;
    }
    Ok(Ok(()))
}

/// … of a file that is not held in memory.
fn stage_long(
    file: &Wanted<'_>,
    object: &File,
    buffer: &mut Vec<u8>,
    stop: &CancellationToken,
) -> Result<Result<(), Lost>, CacheError> {
    let path = file.staging.file(file.number);
    let mut new = create(&path).map_err(CacheError::at(&path))?;
    let mut hash = Hash::new(&SHA256);
    let buffer = first(buffer, CHUNK);
    let end = file.entry.at + file.entry.size;
    let mut at = file.entry.at;
    while at < end {
        if stop.is_cancelled() {
            return Err(CacheError::Stopped);
        }
        let most = buffer.len().min(length(end - at));
        let read = match object.read_at(&mut buffer[..most], at) {
            Ok(0) => return Ok(Err(Lost::Damaged("it ends too early".to_owned()))),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Err(unread(error))),
        };
        hash.update(&buffer[..read]);
        new.write_all(&buffer[..read])
            .map_err(CacheError::at(&path))?;
        at += read as u64;
    }
    if Sum::from(hash.finish()) != file.entry.sha256 {
        return Ok(Err(changed(file)));
    }
    dress(&new, file.entry).map_err(CacheError::at(&path))?;
    Ok(Ok(()))
}

fn create(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn unread(error: std::io::Error) -> Lost {
    match error.kind() {
        ErrorKind::StaleNetworkFileHandle => Lost::Gone,
        ErrorKind::UnexpectedEof => Lost::Damaged("it ends too early".to_owned()),
        _ => Lost::Failed(error),
    }
}

fn changed(file: &Wanted<'_>) -> Lost {
    let (directory, path) = (&file.directory.name, file.path);
    Lost::Damaged(format!("the checksum of {directory}/{path} is another"))
}

/// Puts files in their places. One whose folder is a file here, or in the same generation, has none.
fn place(
    directory: &Directory,
    staging: &Staging,
    files: &[(&str, &Entry)],
    hydrated: &mut Hydrated,
    others: &mut Others,
) -> Result<(), CacheError> {
    let mut folders = Folders::below(&directory.path);
    for (number, (path, entry)) in files.iter().enumerate() {
        let there = directory.path.join(path);
        if !folders.make(path).map_err(CacheError::at(&there))? {
            hydrated.kept += 1;
            others.push((directory.name.clone(), (*path).to_owned()));
            continue;
        }
        fs::rename(staging.file(number), &there).map_err(CacheError::at(&there))?;
        hydrated.files += 1;
        hydrated.bytes += entry.size;
    }
    Ok(())
}

/// Makes the links that are not there; how many that were.
fn place_links(directory: &Directory, root: &Root, others: &mut Others) -> Result<u64, CacheError> {
    let mut folders = Folders::below(&directory.path);
    let mut made = 0;
    for (path, target) in &root.links {
        let there = directory.path.join(path);
        let mut link = || -> std::io::Result<bool> {
            if !folders.make(path)? {
                return Ok(false);
            }
            match std::os::unix::fs::symlink(target, &there) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                done => Ok(done.is_ok()),
            }
        };
        if link().map_err(CacheError::at(&there))? {
            made += 1;
        } else if !fs::read_link(&there).is_ok_and(|to| to == Path::new(target)) {
            others.push((directory.name.clone(), path.clone()));
        }
    }
    Ok(made)
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a span fits into memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_at_once_is_short() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory {
            name: "/x".to_owned(),
            path: folder.path().to_owned(),
        };
        let staging = directory.staging(false).unwrap();
        let entries = [(0, 1 << 40), (0, 0), (10, 10)].map(|(at, size)| Entry {
            size,
            mtime: 0,
            mode: 0,
            sha256: Sum::of(b""),
            object: "a/1".to_owned(),
            at,
        });
        // As a manifest may say that nobody here wrote.
        let wanted = entries.iter().enumerate().map(|(number, entry)| Wanted {
            directory: &directory,
            staging: &staging,
            number,
            path: "file",
            entry,
        });
        for span in spans(wanted.collect()) {
            let len = span.end - span.at;
            assert!(span.files.len() == 1 || len <= SPAN, "{len}");
        }
    }
}
