//! The extraction of one archive.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio_util::sync::CancellationToken;
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config, ZipFile};
use zip::result::ZipError;

use super::UnzipError;
use super::entry_name::{relative, shown};
use super::zip64::claimed_entries;
use crate::files::download::name;

/// The extracted size that is allowed at any ratio, in bytes: small texts and masks compress to nearly nothing.
const HARMLESS: u64 = 64 * 1024 * 1024;
/// The size of the list of entries that is allowed for each permitted entry, in bytes. The list is read into memory.
const BYTES_AN_ENTRY: u64 = 512;
/// The number of bytes that may be read to find that list.
const TO_FIND_IT: u64 = 1024 * 1024;
/// The bits of a Unix mode that contain the file type, and two of the types. 0 means that no type is stored.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

/// The limits on the content of an archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnzipLimits {
    pub(super) bytes: u64,
    pub(super) entries: usize,
    pub(super) ratio: u64,
}

/// Extracts an archive into a new folder inside `inside`, and returns the new folder. A failure leaves nothing behind.
pub(super) fn extract(
    inside: &Path,
    archive: &Path,
    limits: UnzipLimits,
    stop: CancellationToken,
) -> Result<PathBuf, UnzipError> {
    let target = new_folder(inside, archive).map_err(UnzipError::disk)?;
    let extracted = Extraction {
        target: &target,
        limits,
        stop,
        made: 0,
        left: 0,
        because: String::new(),
    }
    .run(archive);
    if extracted.is_err() {
        // What cannot be removed now is removed with the job's folder, where a failure is logged.
        let _ = fs::remove_dir_all(&target);
    }
    extracted.map(|()| target)
}

/// Creates a new folder, named like the archive without its extension.
fn new_folder(inside: &Path, archive: &Path) -> io::Result<PathBuf> {
    let stem = archive.file_stem().map(|stem| stem.to_string_lossy());
    let stem = stem.and_then(|stem| name::safe(&stem));
    let stem = stem.unwrap_or_else(|| "archive".to_owned());
    let ((), folder) = name::make_new("folders", inside, &stem, |path| fs::create_dir(path))?;
    Ok(folder)
}

/// The extraction of an archive into a new folder, which contains no links.
struct Extraction<'a> {
    target: &'a Path,
    limits: UnzipLimits,
    stop: CancellationToken,
    /// The number of files and folders created so far.
    made: usize,
    /// The number of bytes that may still be extracted.
    left: u64,
    /// The reason for the limit on bytes, for the error.
    because: String,
}

impl Extraction<'_> {
    fn run(mut self, archive: &Path) -> Result<(), UnzipError> {
        let size = fs::metadata(archive).map_err(UnzipError::disk)?.len();
        let by_ratio = size.saturating_mul(self.limits.ratio).max(HARMLESS);
        (self.left, self.because) = if by_ratio < self.limits.bytes {
            (by_ratio, format!("for an archive of {size} bytes"))
        } else {
            (self.limits.bytes, "for extracted files".to_owned())
        };
        self.limits.bytes = self.left;

        let mut archive = self.open(archive)?;
        if archive.has_overlapping_entries().map_err(damaged)? {
            return Err(UnzipError::Damaged {
                problem: "its entries overlap, as in a zip bomb".to_owned(),
            });
        }
        for index in 0..archive.len() {
            if self.stop.is_cancelled() {
                return Err(UnzipError::Stopped);
            }
            self.extract(&mut archive, index)?;
            let limit = self.limits.entries;
            if self.made > limit {
                return Err(UnzipError::TooMany { limit });
            }
        }
        Ok(())
    }

    /// Opens the archive and reads its list of entries.
    fn open(&self, archive: &Path) -> Result<ZipArchive<LimitedFile>, UnzipError> {
        let limit = self.limits.entries;
        let mut file = File::open(archive).map_err(UnzipError::disk)?;
        let archive_offset = match claimed_entries(&mut file).map_err(UnzipError::disk)? {
            None => ArchiveOffset::Detect,
            // With a known offset the reader looks where the locators point, and so at the records that were checked.
            Some(claimed) if claimed <= limit as u64 => ArchiveOffset::Known(0),
            Some(_) => return Err(UnzipError::TooMany { limit }),
        };
        let left = (limit as u64).saturating_mul(BYTES_AN_ENTRY);
        let left = Rc::new(Cell::new(Some(left.saturating_add(TO_FIND_IT))));
        let file = LimitedFile {
            file,
            left: Rc::clone(&left),
        };
        let opened = ZipArchive::with_config(Config { archive_offset }, file);
        let is_spent = left.take() == Some(0);
        match opened {
            Ok(archive) if archive.len() > limit => Err(UnzipError::TooMany { limit }),
            Ok(archive) if archive.has_duplicate_names() => Err(UnzipError::Damaged {
                problem: "two of its entries have the same name".to_owned(),
            }),
            Ok(archive) => Ok(archive),
            Err(_) if is_spent => Err(UnzipError::TooMany { limit }),
            Err(error) => Err(damaged(error)),
        }
    }

    fn extract(
        &mut self,
        archive: &mut ZipArchive<LimitedFile>,
        index: usize,
    ) -> Result<(), UnzipError> {
        let entry = archive.by_index_raw(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        let refuse = |problem: &str| UnzipError::Entry {
            name: shown(&name),
            problem: problem.to_owned(),
        };
        let kind = entry.unix_mode().unwrap_or_default() & KIND;
        if entry.is_symlink() || ![0, REGULAR, FOLDER].contains(&kind) {
            return Err(refuse("is a link or a device, not a file or a folder"));
        }
        if entry.encrypted() {
            return Err(refuse("is encrypted"));
        }
        let is_folder = entry.is_dir() || kind == FOLDER;
        let path = relative(&name, is_folder).map_err(refuse)?;
        let path = self.target.join(path);
        let refused = |error: io::Error| match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                refuse("is a duplicate, or is both a file and a folder")
            }
            ErrorKind::InvalidFilename => refuse("has a name that is too long"),
            _ => UnzipError::disk(error),
        };
        if is_folder {
            return self.make_folder(&path).map_err(refused);
        }
        if entry.size() > self.left {
            return Err(self.too_large());
        }
        drop(entry);
        let mut entry = archive
            .by_index(index)
            .map_err(|error| refuse(&format!("cannot be read: {error}")))?;
        let parent = path.parent().expect("the path is inside the target");
        self.make_folder(parent).map_err(refused)?;
        // Never overwrites a file.
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(refused)?;
        self.made += 1;
        self.copy(&mut entry, file, &name)
    }

    /// Creates a folder and its missing parents.
    fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Ok(()) => self.made += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_folder(path.parent().expect("the path is inside the target"))?;
                return self.make_folder(path);
            }
            Err(_) if path.is_dir() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Copies the content of an entry. The limit applies to the actual size, whatever size the entry claims.
    fn copy(
        &mut self,
        entry: &mut ZipFile<'_, LimitedFile>,
        mut file: File,
        name: &str,
    ) -> Result<(), UnzipError> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if self.stop.is_cancelled() {
                return Err(UnzipError::Stopped);
            }
            let read = entry.read(&mut buffer).map_err(|error| UnzipError::Entry {
                name: shown(name),
                problem: format!("cannot be read: {error}"),
            })?;
            if read == 0 {
                return Ok(());
            }
            let left = self.left.checked_sub(read as u64);
            self.left = left.ok_or_else(|| self.too_large())?;
            file.write_all(&buffer[..read]).map_err(UnzipError::disk)?;
        }
    }

    fn too_large(&self) -> UnzipError {
        UnzipError::TooLarge {
            limit: self.limits.bytes,
            because: self.because.clone(),
        }
    }
}

/// A file of which at most `left` bytes can be read; `None` removes the limit.
struct LimitedFile {
    file: File,
    left: Rc<Cell<Option<u64>>>,
}

impl Read for LimitedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.left.get() else {
            return self.file.read(buffer);
        };
        if left == 0 {
            return Err(io::Error::other("the read limit is exceeded"));
        }
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        self.left.set(Some(left - read as u64));
        Ok(read)
    }
}

impl Seek for LimitedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

fn damaged(error: ZipError) -> UnzipError {
    UnzipError::Damaged {
        problem: error.to_string(),
    }
}
