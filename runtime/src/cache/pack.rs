//! Local files into objects on the volume: small ones packed, large ones as they are.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read as _, Write};
use std::path::Path;

use ring::digest::{Context as Hash, SHA256};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::net::sha256::Sum;

use super::manifest::Entry;
use super::parallel::first;
use super::report::CacheError;
use super::store::{self, Store};
use super::tree::{Directory, Found};

/// Bytes of one pack, about.
const PACK: u64 = 64 * 1024 * 1024;
/// … and the fewest for which there is another, so that it can be written beside.
const SHARE: u64 = 4 * 1024 * 1024;
/// A pack of fewer bytes is a little one …
pub(super) const LITTLE: u64 = 16 * 1024 * 1024;
/// … and once there are more than so many, they are packed together.
pub(super) const LITTLE_PACKS: usize = 16;
/// Packs that are written at once, but for full ones: far fewer than would be packed together again.
const SHARES: usize = LITTLE_PACKS / 2;
/// Bytes that are copied at once: so few that they stay in a core's cache until they are written.
const CHUNK: usize = 256 * 1024;
/// The unit of a tar archive.
const BLOCK: u64 = 512;

/// What ends the name of a pack.
pub(super) const PACKED: &str = ".tar";

/// A local file that is to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) directory: &'a Directory,
    pub(super) path: &'a str,
    /// What it was when the tree was walked.
    pub(super) found: Found,
}

impl Source<'_> {
    fn size(&self) -> u64 {
        self.found.stamp.size
    }
}

/// What becomes one object.
#[derive(Debug)]
pub(super) enum Task<'a> {
    Pack(Vec<Source<'a>>),
    Large(Source<'a>),
}

/// A file that was written, and how long its object is; or one that changed meanwhile.
#[derive(Debug)]
pub(super) struct Packed<'a> {
    pub(super) source: Source<'a>,
    pub(super) written: Option<(Entry, u64)>,
}

/// Which objects become of these, where so many cores are at work.
pub(super) fn tasks(files: Vec<Source<'_>>, small_below: u64, cores: usize) -> Vec<Task<'_>> {
    let (small, mut large): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|file| file.size() < small_below);
    // The longest first, so that the last to end is a short one.
    large.sort_by_key(|file| std::cmp::Reverse(file.size()));
    let mut tasks = Vec::new();
    let total: u64 = small.iter().map(|file| file.size() + BLOCK).sum();
    let shares = (total / SHARE).clamp(1, cores.clamp(1, SHARES) as u64);
    let most = (total / shares + 1).min(PACK);
    let (mut pack, mut bytes) = (Vec::new(), 0);
    for file in small {
        pack.push(file);
        bytes += file.size() + BLOCK;
        if bytes >= most {
            tasks.push(Task::Pack(std::mem::take(&mut pack)));
            bytes = 0;
        }
    }
    if !pack.is_empty() {
        tasks.push(Task::Pack(pack));
    }
    tasks.extend(large.into_iter().map(Task::Large));
    tasks
}

/// Bytes of a file in a pack, with what stands before it and behind it.
pub(super) fn len_in_pack(directory: &str, path: &str, size: u64) -> u64 {
    let name = (directory.len() + path.len()) as u64;
    // A name that is longer than its field is told in a block of its own kind.
    let long = if name > 100 {
        BLOCK + (name + 1).next_multiple_of(BLOCK)
    } else {
        0
    };
    long + BLOCK + size.next_multiple_of(BLOCK)
}

/// Writes an object.
pub(super) fn write<'a>(
    store: &Store,
    object: &str,
    task: &Task<'a>,
    buffer: &mut Vec<u8>,
    stop: &CancellationToken,
) -> Result<Vec<Packed<'a>>, CacheError> {
    let path = store.object(object);
    let failed = || CacheError::at(&path);
    let mut file = File::create_new(&path).map_err(failed())?;
    let packed = match task {
        Task::Pack(sources) => pack(sources, object, &file, buffer, stop, &path)?,
        Task::Large(source) => vec![copy(*source, object, &mut file, buffer, stop, &path)?],
    };
    // Whole on the volume before anything refers to it.
    file.sync_data().map_err(failed())?;
    if packed.iter().all(|packed| packed.written.is_none()) {
        std::fs::remove_file(&path).map_err(failed())?;
    }
    Ok(packed)
}

/// Packs small files into a tar archive, so that anybody can look into it. It is read by the places alone that the
/// manifest knows.
fn pack<'a>(
    sources: &[Source<'a>],
    object: &str,
    file: &File,
    buffer: &mut Vec<u8>,
    stop: &CancellationToken,
    path: &Path,
) -> Result<Vec<Packed<'a>>, CacheError> {
    let failed = || CacheError::at(path);
    let mut archive = tar::Builder::new(Counted {
        writer: BufWriter::with_capacity(CHUNK, file),
        len: 0,
    });
    let mut packed = Vec::with_capacity(sources.len());
    for &source in sources {
        if stop.is_cancelled() {
            return Err(CacheError::Stopped);
        }
        let Some((found, bytes)) = read_settled(source, buffer) else {
            packed.push(Packed {
                source,
                written: None,
            });
            continue;
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(found.stamp.size);
        header.set_mode(found.mode);
        header.set_mtime(u64::try_from(found.stamp.mtime / 1_000_000_000).unwrap_or_default());
        let name = format!("{}/{}", source.directory.name, source.path);
        let name = name.trim_start_matches('/');
        archive
            .append_data(&mut header, name, bytes)
            .map_err(failed())?;
        let at = archive.get_ref().len - found.stamp.size.next_multiple_of(BLOCK);
        let entry = entry(found, Sum::of(bytes), object, at);
        packed.push(Packed {
            source,
            written: Some((entry, 0)),
        });
    }
    let mut counted = archive.into_inner().map_err(failed())?;
    counted.flush().map_err(failed())?;
    for (_, len) in packed.iter_mut().filter_map(|file| file.written.as_mut()) {
        *len = counted.len;
    }
    Ok(packed)
}

/// Reads a file that does not change meanwhile; `None` if it does, or is not there any more, or cannot be read.
fn read_settled<'b>(source: Source<'_>, buffer: &'b mut Vec<u8>) -> Option<(Found, &'b [u8])> {
    settled(source, read(source, buffer))
}

fn read<'b>(source: Source<'_>, buffer: &'b mut Vec<u8>) -> io::Result<Option<(Found, &'b [u8])>> {
    let mut file = open(source)?;
    // What has grown since may be too long for this.
    let found = look(&file)?.filter(|found| found.stamp.size <= source.size());
    let Some(found) = found else {
        return Ok(None);
    };
    let len = usize::try_from(found.stamp.size).map_err(io::Error::other)?;
    let bytes = first(buffer, len);
    file.read_exact(bytes)?;
    let is_same = look(&file)? == Some(found);
    Ok(is_same.then_some((found, bytes)))
}

/// Copies a large file as it is.
fn copy<'a>(
    source: Source<'a>,
    object: &str,
    to: &mut File,
    buffer: &mut Vec<u8>,
    stop: &CancellationToken,
    path: &Path,
) -> Result<Packed<'a>, CacheError> {
    let unsettled = Packed {
        source,
        written: None,
    };
    let opened = open(source).and_then(|file| Ok(look(&file)?.map(|found| (file, found))));
    let Some((mut file, found)) = settled(source, opened) else {
        return Ok(unsettled);
    };
    let mut hash = Hash::new(&SHA256);
    let buffer = first(buffer, CHUNK);
    let mut len = 0;
    loop {
        if stop.is_cancelled() {
            return Err(CacheError::Stopped);
        }
        let read = match file.read(buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                let _: Option<()> = settled(source, Err(error));
                return Ok(unsettled);
            }
        };
        len += read as u64;
        if len > found.stamp.size {
            return Ok(unsettled);
        }
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])
            .map_err(CacheError::at(path))?;
    }
    if settled(source, look(&file)) != Some(found) || len != found.stamp.size {
        return Ok(unsettled);
    }
    let entry = entry(found, hash.finish().into(), object, 0);
    Ok(Packed {
        source,
        written: Some((entry, len)),
    })
}

fn entry(found: Found, sha256: Sum, object: &str, at: u64) -> Entry {
    Entry {
        size: found.stamp.size,
        mtime: found.stamp.mtime,
        mode: found.mode,
        sha256,
        object: object.to_owned(),
        at,
    }
}

fn open(source: Source<'_>) -> io::Result<File> {
    store::open(&source.directory.path.join(source.path))
}

/// What an open file is now, if it is one, and was not changed just now.
fn look(file: &File) -> io::Result<Option<Found>> {
    let metadata = file.metadata()?;
    let found = metadata.is_file().then(|| Found::of(&metadata));
    Ok(found.filter(|found| found.unsettled_for().is_zero()))
}

/// A local file that cannot be read is left out, like one that changes.
fn settled<T>(source: Source<'_>, read: io::Result<Option<T>>) -> Option<T> {
    match read {
        Ok(read) => read,
        Err(error) => {
            let (directory, path) = (&source.directory.name, source.path);
            debug!("{directory}/{path} is not cached this time: {error}");
            None
        }
    }
}

/// Counts what is written.
struct Counted<W> {
    writer: W,
    len: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_cores_pack_is_not_to_be_packed_together_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("file")).unwrap();
        file.set_len(20 * 1024).unwrap();
        let directory = Directory {
            name: "/x".to_owned(),
            path: folder.path().to_owned(),
        };
        let source = Source {
            directory: &directory,
            path: "file",
            found: directory.walk().files["file"],
        };
        for files in (1000..20_000).step_by(500) {
            let tasks = tasks(vec![source; files], 256 * 1024, 64);
            let len = |task: &Task<'_>| match task {
                Task::Pack(sources) => sources.iter().map(Source::size).sum(),
                Task::Large(source) => source.size(),
            };
            let little = tasks.iter().filter(|task| len(task) < LITTLE).count();
            assert!(little <= LITTLE_PACKS, "{little} of {files} files");
        }
    }

    #[test]
    fn a_small_file_that_has_grown_is_not_held_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let directory = Directory {
            name: "/x".to_owned(),
            path: folder.path().to_owned(),
        };
        let is_read = |seen: &str, now: &str| {
            std::fs::write(&file, seen).unwrap();
            let found = directory.walk().files["file"];
            std::fs::write(&file, now).unwrap();
            let unsettled = Found::of(&file.metadata().unwrap()).unsettled_for();
            std::thread::sleep(unsettled);
            let source = Source {
                directory: &directory,
                path: "file",
                found,
            };
            read(source, &mut Vec::new()).unwrap().is_some()
        };
        assert!(is_read("seen", "less"));
        assert!(!is_read("seen", "longer"));
    }
}
