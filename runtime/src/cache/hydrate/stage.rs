//! Reads and checks files, and writes them to the staging folder.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use ring::digest::{Context as Hash, SHA256};
use tokio_util::sync::CancellationToken;

use crate::cache::parallel::first;
use crate::cache::report::CacheError;
use crate::cache::store::ObjectError;
use crate::cache::tree::set_metadata;
use crate::net::sha256::Sum;

use super::ranges::{MAX_RANGE, MissingFile, ObjectRange};

/// Number of bytes to copy at once: few enough to stay in a core's cache until they are written.
const CHUNK: usize = 256 * 1024;

/// Stages the files of a range. The outer error is a local failure. The inner error concerns the object.
pub(super) fn stage(
    range: &ObjectRange<'_>,
    object: &File,
    buffer: &mut Vec<u8>,
    stop: &CancellationToken,
) -> Result<Result<(), ObjectError>, CacheError> {
    if let [file] = &range.files[..]
        && file.entry.size > MAX_RANGE
    {
        return stage_long(file, object, buffer, stop);
    }
    let bytes = first(buffer, length(range.end - range.start));
    if let Err(error) = object.read_exact_at(bytes, range.start) {
        return Ok(Err(read_error(error)));
    }
    for file in &range.files {
        let start = length(file.entry.at - range.start);
        let bytes = &bytes[start..start + length(file.entry.size)];
        if Sum::of(bytes) != file.entry.sha256 {
            return Ok(Err(wrong_checksum(file)));
        }
        create(&file.staged)
            .and_then(|mut new| {
                new.write_all(bytes)?;
                set_metadata(&new, file.entry)
            })
            .map_err(CacheError::at(&file.staged))?;
    }
    Ok(Ok(()))
}

/// Stages a file that is too large to hold in memory.
fn stage_long(
    file: &MissingFile<'_>,
    object: &File,
    buffer: &mut Vec<u8>,
    stop: &CancellationToken,
) -> Result<Result<(), ObjectError>, CacheError> {
    let failed = || CacheError::at(&file.staged);
    let mut new = create(&file.staged).map_err(failed())?;
    let mut hash = Hash::new(&SHA256);
    let buffer = first(buffer, CHUNK);
    let end = file.entry.at + file.entry.size;
    let mut at = file.entry.at;
    while at < end {
        if stop.is_cancelled() {
            return Err(CacheError::Stopped);
        }
        let len = buffer.len().min(length(end - at));
        let read = match object.read_at(&mut buffer[..len], at) {
            Ok(0) => return Ok(Err(read_error(ErrorKind::UnexpectedEof.into()))),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Err(read_error(error))),
        };
        hash.update(&buffer[..read]);
        new.write_all(&buffer[..read]).map_err(failed())?;
        at += read as u64;
    }
    if Sum::from(hash.finish()) != file.entry.sha256 {
        return Ok(Err(wrong_checksum(file)));
    }
    set_metadata(&new, file.entry).map_err(failed())?;
    Ok(Ok(()))
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

fn read_error(error: io::Error) -> ObjectError {
    match error.kind() {
        ErrorKind::StaleNetworkFileHandle => ObjectError::Missing,
        ErrorKind::UnexpectedEof => ObjectError::Damaged("unexpected end of file".to_owned()),
        _ => ObjectError::Io(error),
    }
}

fn wrong_checksum(file: &MissingFile<'_>) -> ObjectError {
    let MissingFile {
        directory, path, ..
    } = file;
    ObjectError::Damaged(format!("checksum mismatch in {directory}/{path}"))
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a range fits into memory")
}
