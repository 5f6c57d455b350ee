//! Writes local files into objects on the volume: small files in packs, each large file as its own object.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read as _, Write};
use std::path::Path;

use ring::digest::{Context as Hash, SHA256};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::net::sha256::Sum;

use super::file_io;
use super::manifest::FileEntry;
use super::parallel::first;
use super::report::CacheError;
use super::store::CacheStore;
use super::tree::{Directory, FileStat};

/// Size of a full pack, in bytes.
const FULL_PACK: u64 = 64 * 1024 * 1024;
/// Minimum size of a pack, in bytes, when small files are split into several packs to write them in parallel.
const MIN_PACK: u64 = 4 * 1024 * 1024;
/// Size below which a pack counts as small, in bytes.
pub(super) const SMALL_PACK: u64 = 16 * 1024 * 1024;
/// Maximum number of small packs. If there are more, the next sync merges them.
pub(super) const MAX_SMALL_PACKS: usize = 16;
/// Maximum number of packs in one sync that are not full. It is far below [`MAX_SMALL_PACKS`], so that they are not
/// merged right away.
const MAX_PARALLEL_PACKS: usize = MAX_SMALL_PACKS / 2;
/// Number of bytes to copy at once: few enough to stay in a core's cache until they are written.
const CHUNK: usize = 256 * 1024;
/// Block size of a tar archive, in bytes.
const BLOCK: u64 = 512;

/// File name suffix of a pack.
pub(super) const PACK_SUFFIX: &str = ".tar";

/// A local file to write to the volume.
#[derive(Debug, Clone, Copy)]
pub(super) struct SourceFile<'a> {
    pub(super) directory: &'a Directory,
    pub(super) path: &'a str,
    /// The file's metadata when the directory was listed.
    pub(super) seen: FileStat,
}

impl SourceFile<'_> {
    fn size(&self) -> u64 {
        self.seen.stamp.size
    }
}

/// The files of one object.
#[derive(Debug)]
pub(super) enum ObjectFiles<'a> {
    /// Small files, packed together.
    Pack(Vec<SourceFile<'a>>),
    /// One large file.
    Large(SourceFile<'a>),
}

/// The result of writing one file.
#[derive(Debug)]
pub(super) struct PackedFile<'a> {
    pub(super) source: SourceFile<'a>,
    /// The file's entry and the length of its object in bytes. `None` if the file changed while it was read, or is
    /// unreadable.
    pub(super) written: Option<(FileEntry, u64)>,
}

/// Distributes files over objects, with about one pack per core.
pub(super) fn assign_objects(
    files: Vec<SourceFile<'_>>,
    small_below: u64,
    cores: usize,
) -> Vec<ObjectFiles<'_>> {
    let (small, mut large): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|file| file.size() < small_below);
    // The largest files first, so that no thread starts a large one last.
    large.sort_by_key(|file| std::cmp::Reverse(file.size()));
    let mut objects = Vec::new();
    let total: u64 = small.iter().map(|file| file.size() + BLOCK).sum();
    let packs = (total / MIN_PACK).clamp(1, cores.clamp(1, MAX_PARALLEL_PACKS) as u64);
    let max_bytes = (total / packs + 1).min(FULL_PACK);
    let (mut pack, mut bytes) = (Vec::new(), 0);
    for file in small {
        pack.push(file);
        bytes += file.size() + BLOCK;
        if bytes >= max_bytes {
            objects.push(ObjectFiles::Pack(std::mem::take(&mut pack)));
            bytes = 0;
        }
    }
    if !pack.is_empty() {
        objects.push(ObjectFiles::Pack(pack));
    }
    objects.extend(large.into_iter().map(ObjectFiles::Large));
    objects
}

/// Returns the size of a file in a pack, in bytes, including headers and padding.
pub(super) fn len_in_pack(directory: &str, path: &str, size: u64) -> u64 {
    let name = (directory.len() + path.len()) as u64;
    // A name that is too long for the header gets its own entry.
    let long_name = if name > 100 {
        BLOCK + (name + 1).next_multiple_of(BLOCK)
    } else {
        0
    };
    long_name + BLOCK + size.next_multiple_of(BLOCK)
}

/// Writes an object and flushes it to disk. Removes the object if none of its files could be read.
pub(super) fn write<'a>(
    store: &CacheStore,
    object: &str,
    files: &ObjectFiles<'a>,
    buffer: &mut Vec<u8>,
    stop: &CancellationToken,
) -> Result<Vec<PackedFile<'a>>, CacheError> {
    let path = store.object(object);
    let failed = || CacheError::at(&path);
    let mut file = File::create_new(&path).map_err(failed())?;
    let packed = match files {
        ObjectFiles::Pack(sources) => pack(sources, object, &file, buffer, stop, &path)?,
        ObjectFiles::Large(source) => vec![copy(*source, object, &mut file, buffer, stop, &path)?],
    };
    // The object must be complete on the volume before a manifest refers to it.
    file.sync_data().map_err(failed())?;
    if packed.iter().all(|packed| packed.written.is_none()) {
        std::fs::remove_file(&path).map_err(failed())?;
    }
    Ok(packed)
}

/// Packs small files into a tar archive, which any tar tool can list. The cache itself finds the files by their offsets
/// in the manifest.
fn pack<'a>(
    sources: &[SourceFile<'a>],
    object: &str,
    file: &File,
    buffer: &mut Vec<u8>,
    stop: &CancellationToken,
    path: &Path,
) -> Result<Vec<PackedFile<'a>>, CacheError> {
    let failed = || CacheError::at(path);
    let mut archive = tar::Builder::new(CountingWriter {
        writer: BufWriter::with_capacity(CHUNK, file),
        len: 0,
    });
    let mut packed = Vec::with_capacity(sources.len());
    for &source in sources {
        if stop.is_cancelled() {
            return Err(CacheError::Stopped);
        }
        let Some((stat, bytes)) = read_settled(source, buffer) else {
            packed.push(PackedFile {
                source,
                written: None,
            });
            continue;
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(stat.stamp.size);
        header.set_mode(stat.mode);
        header.set_mtime(u64::try_from(stat.stamp.mtime / 1_000_000_000).unwrap_or_default());
        let name = format!("{}/{}", source.directory.name, source.path);
        let name = name.trim_start_matches('/');
        archive
            .append_data(&mut header, name, bytes)
            .map_err(failed())?;
        let at = archive.get_ref().len - stat.stamp.size.next_multiple_of(BLOCK);
        let entry = entry(stat, Sum::of(bytes), object, at);
        packed.push(PackedFile {
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

/// Reads a small file. Returns `None` if the file changed while it was read, no longer exists, or is unreadable.
fn read_settled<'b>(
    source: SourceFile<'_>,
    buffer: &'b mut Vec<u8>,
) -> Option<(FileStat, &'b [u8])> {
    settled(source, read(source, buffer))
}

fn read<'b>(
    source: SourceFile<'_>,
    buffer: &'b mut Vec<u8>,
) -> io::Result<Option<(FileStat, &'b [u8])>> {
    let mut file = open(source)?;
    // A file that has grown since the listing may be too large to hold in memory.
    let stat = look(&file)?.filter(|stat| stat.stamp.size <= source.size());
    let Some(stat) = stat else {
        return Ok(None);
    };
    let len = usize::try_from(stat.stamp.size).map_err(io::Error::other)?;
    let bytes = first(buffer, len);
    file.read_exact(bytes)?;
    let is_same = look(&file)? == Some(stat);
    Ok(is_same.then_some((stat, bytes)))
}

/// Copies a large file into its own object.
fn copy<'a>(
    source: SourceFile<'a>,
    object: &str,
    to: &mut File,
    buffer: &mut Vec<u8>,
    stop: &CancellationToken,
    path: &Path,
) -> Result<PackedFile<'a>, CacheError> {
    let unsettled = PackedFile {
        source,
        written: None,
    };
    let opened = open(source).and_then(|file| Ok(look(&file)?.map(|stat| (file, stat))));
    let Some((mut file, stat)) = settled(source, opened) else {
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
        if len > stat.stamp.size {
            return Ok(unsettled);
        }
        hash.update(&buffer[..read]);
        to.write_all(&buffer[..read])
            .map_err(CacheError::at(path))?;
    }
    if settled(source, look(&file)) != Some(stat) || len != stat.stamp.size {
        return Ok(unsettled);
    }
    let entry = entry(stat, hash.finish().into(), object, 0);
    Ok(PackedFile {
        source,
        written: Some((entry, len)),
    })
}

fn entry(stat: FileStat, sha256: Sum, object: &str, at: u64) -> FileEntry {
    FileEntry {
        size: stat.stamp.size,
        mtime: stat.stamp.mtime,
        mode: stat.mode,
        sha256,
        object: object.to_owned(),
        at,
    }
}

fn open(source: SourceFile<'_>) -> io::Result<File> {
    file_io::open(&source.directory.path.join(source.path))
}

/// Returns the metadata of an open file, or `None` if it is not a regular file or has only just changed.
fn look(file: &File) -> io::Result<Option<FileStat>> {
    let metadata = file.metadata()?;
    let stat = metadata.is_file().then(|| FileStat::of(&metadata));
    Ok(stat.filter(|stat| stat.unsettled_for().is_zero()))
}

/// Returns `None` for an unreadable local file: it is skipped, like a file that changes while it is read.
fn settled<T>(source: SourceFile<'_>, read: io::Result<Option<T>>) -> Option<T> {
    match read {
        Ok(read) => read,
        Err(error) => {
            let (directory, path) = (&source.directory.name, source.path);
            debug!(directory, path, %error, "Skipping an unreadable file.");
            None
        }
    }
}

/// A writer that counts the bytes written to it.
struct CountingWriter<W> {
    writer: W,
    len: u64,
}

impl<W: Write> Write for CountingWriter<W> {
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
    fn packs_of_many_threads_are_not_repacked() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("file")).unwrap();
        file.set_len(20 * 1024).unwrap();
        let directory = Directory {
            name: "/x".to_owned(),
            path: folder.path().to_owned(),
        };
        let source = SourceFile {
            directory: &directory,
            path: "file",
            seen: directory.walk().files["file"],
        };
        for files in (1000..20_000).step_by(500) {
            let objects = assign_objects(vec![source; files], 256 * 1024, 64);
            let len = |files: &ObjectFiles<'_>| match files {
                ObjectFiles::Pack(sources) => sources.iter().map(SourceFile::size).sum(),
                ObjectFiles::Large(source) => source.size(),
            };
            let little = objects
                .iter()
                .filter(|files| len(files) < SMALL_PACK)
                .count();
            assert!(little <= MAX_SMALL_PACKS, "{little} of {files} files");
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
        let is_read = |before: &str, now: &str| {
            std::fs::write(&file, before).unwrap();
            let seen = directory.walk().files["file"];
            std::fs::write(&file, now).unwrap();
            let unsettled = FileStat::of(&file.metadata().unwrap()).unsettled_for();
            std::thread::sleep(unsettled);
            let source = SourceFile {
                directory: &directory,
                path: "file",
                seen,
            };
            read(source, &mut Vec::new()).unwrap().is_some()
        };
        assert!(is_read("seen", "less"));
        assert!(!is_read("seen", "longer"));
    }
}
