//! What is in a zip archive, into the job's folder.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tokio_util::sync::CancellationToken;
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config, ZipFile};
use zip::result::ZipError;

use crate::handler::Context;

use super::name;
use super::zip64::claimed_entries;

/// Entries of an archive.
const MAX_ENTRIES: usize = 100_000;
/// How many times its size an archive may become.
const MAX_RATIO: u64 = 200;
/// So much it may become in any case: small texts and masks are compressed to nearly nothing.
const HARMLESS: u64 = 64 * 1024 * 1024;
/// Most parts of an entry's path: a folder in so many others can still be removed.
const MAX_PARTS: usize = 64;
/// Bytes of the list of entries for each that there may be: the list is read into memory.
const BYTES_AN_ENTRY: u64 = 512;
/// Bytes that are read to find that list.
const TO_FIND_IT: u64 = 1024 * 1024;
/// The bits of a Unix mode that tell the kind of a file, and two kinds; 0 is none that was told.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

/// Extracts zip archives into a new folder inside the job's [folder](Context::folder).
///
/// An archive comes from outside, so it is refused as a whole, and nothing of it is left, when an entry would be
/// written elsewhere, is a link, a device, encrypted or damaged, is there twice, or when there are too many or too much
/// comes of them. Entries are stored or deflated; their dates and permissions are left out.
///
/// ```no_run
/// use podwork::files::{RemoteFile, Unzip};
/// use podwork::{Context, Result, handler};
///
/// #[handler]
/// async fn train(images: RemoteFile, cx: Context) -> Result<usize> {
///     let archive = images.download(&cx).await?;
///     let folder = Unzip::new(&cx).max_entries(500).extract(&archive).await?;
///     Ok(std::fs::read_dir(folder)?.count())
/// }
/// ```
#[derive(Debug)]
#[must_use = "nothing is extracted before `extract`"]
pub struct Unzip<'a> {
    cx: &'a Context,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    bytes: u64,
    entries: usize,
    ratio: u64,
}

/// Why an archive could not be extracted.
///
/// ```
/// use podwork::files::{RemoteFile, Unzip, UnzipError};
/// use podwork::testing::TestJob;
/// use podwork::{Context, Result, handler};
/// use serde_json::json;
///
/// #[handler]
/// async fn unpack(file: RemoteFile, cx: Context) -> Result<&'static str> {
///     let path = file.download(&cx).await?;
///     match Unzip::new(&cx).extract(&path).await {
///         Ok(_) => Ok("unpacked"),
///         Err(UnzipError::Damaged { .. }) => Ok("no archive"), // … then it is one file
///         Err(error) => Err(error.into()),
///     }
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let job = TestJob::new(json!("data:,text")).run::<unpack>().await;
/// assert_eq!(job.result.unwrap(), json!("no archive"));
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnzipError {
    /// It is no zip archive, or none that can be read.
    #[error("the archive cannot be read: {problem}")]
    Damaged {
        /// What is wrong.
        problem: String,
    },

    /// An entry is none that is extracted.
    #[error("the archive's entry `{name}` {problem}")]
    Entry {
        /// The entry's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },

    /// There are too many entries, or too many folders that their names imply.
    #[error(
        "the archive has more than {limit} files and folders, or a list of them that is too long"
    )]
    TooMany {
        /// Most files and folders.
        limit: usize,
    },

    /// Too much would come of it.
    #[error("the archive becomes more than {limit} bytes, the most {because}")]
    TooLarge {
        /// Most bytes.
        limit: u64,
        /// Why it is not more.
        because: String,
    },

    /// It could not be written into the job's folder.
    #[error("the archive could not be extracted: {0}")]
    Disk(#[from] io::Error),

    /// The job was told to stop.
    #[error("the job was told to stop")]
    Stopped,
}

impl<'a> Unzip<'a> {
    /// Extracts for this job.
    pub fn new(cx: &'a Context) -> Self {
        let limits = Limits {
            bytes: cx.download_limits().max_bytes,
            entries: MAX_ENTRIES,
            ratio: MAX_RATIO,
        };
        Self { cx, limits }
    }

    /// Most bytes that may come of an archive; `RUNPOD_MAX_DOWNLOAD_BYTES`, else 5 GiB, unless it is set.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Most entries of an archive, files and folders, with those that are only named as parts of a path; 100,000 unless it
    /// is set.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.limits.entries = entries;
        self
    }

    /// How many times its own size an archive may become, beyond 64 MiB; 200 unless it is set.
    pub fn max_ratio(mut self, times: u64) -> Self {
        self.limits.ratio = times;
        self
    }

    /// Extracts an archive into a folder of its own, which is called like it, and says where that is.
    ///
    /// # Errors
    /// See [`UnzipError`]. Then nothing of it is left.
    pub async fn extract(&self, archive: impl AsRef<Path>) -> Result<PathBuf, UnzipError> {
        let stop = self.cx.stop_token();
        // This future may be dropped before the thread has ended.
        let _stop = stop.clone().drop_guard();
        let (cx, limits) = (self.cx.clone(), self.limits);
        let archive = archive.as_ref().to_owned();
        let extract = move || {
            let target = new_folder(&cx.folder()?, &archive)?;
            let extracted = Extraction {
                target: &target,
                limits,
                stop,
                made: 0,
                left: 0,
                because: String::new(),
            }
            .run(&archive);
            if extracted.is_err() {
                // What cannot be removed now goes with the job's folder, or is complained of then.
                let _ = fs::remove_dir_all(&target);
            }
            extracted.map(|()| target)
        };
        self.cx.blocking(extract).await?
    }

    /// [`extract`](Self::extract) for a handler that is a plain `fn`.
    ///
    /// # Errors
    /// As there; or the job is told to stop.
    ///
    /// # Panics
    /// It is called in async code.
    pub fn extract_blocking(&self, archive: impl AsRef<Path>) -> Result<PathBuf, UnzipError> {
        self.cx.wait(self.extract(archive), UnzipError::Stopped)
    }
}

/// A folder that was not there, called like the archive without its ending.
fn new_folder(inside: &Path, archive: &Path) -> io::Result<PathBuf> {
    let stem = archive.file_stem().map(|stem| stem.to_string_lossy());
    let stem = stem.and_then(|stem| name::safe(&stem));
    let stem = stem.unwrap_or_else(|| "archive".to_owned());
    let ((), folder) = name::make_new("folders", inside, &stem, |path| fs::create_dir(path))?;
    Ok(folder)
}

/// One archive, on its way into a folder that is new and holds no links.
struct Extraction<'a> {
    target: &'a Path,
    limits: Limits,
    stop: CancellationToken,
    /// Files and folders that came of it.
    made: usize,
    /// Bytes that may still come of it.
    left: u64,
    /// Why there are no more.
    because: String,
}

impl Extraction<'_> {
    fn run(mut self, archive: &Path) -> Result<(), UnzipError> {
        let size = fs::metadata(archive)?.len();
        let by_ratio = size.saturating_mul(self.limits.ratio).max(HARMLESS);
        (self.left, self.because) = if by_ratio < self.limits.bytes {
            (by_ratio, format!("that may come of {size} bytes"))
        } else {
            (self.limits.bytes, "that may be extracted".to_owned())
        };
        self.limits.bytes = self.left;

        let mut archive = self.open(archive)?;
        if archive.has_overlapping_entries().map_err(damaged)? {
            return Err(UnzipError::Damaged {
                problem: "its entries overlap, as they do in archives that are made to do harm"
                    .to_owned(),
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

    /// Reads the list of entries.
    fn open(&self, archive: &Path) -> Result<ZipArchive<Limited>, UnzipError> {
        let limit = self.limits.entries;
        let mut file = File::open(archive)?;
        let archive_offset = match claimed_entries(&mut file)? {
            None => ArchiveOffset::Detect,
            // Nothing else stands before it, so that the reader looks where locators say.
            Some(claimed) if claimed <= limit as u64 => ArchiveOffset::Known(0),
            Some(_) => return Err(UnzipError::TooMany { limit }),
        };
        let left = (limit as u64).saturating_mul(BYTES_AN_ENTRY);
        let left = Rc::new(Cell::new(Some(left.saturating_add(TO_FIND_IT))));
        let file = Limited {
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
        archive: &mut ZipArchive<Limited>,
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
        let trouble = |error: io::Error| match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
                refuse("is there twice, or is both a file and a folder")
            }
            ErrorKind::InvalidFilename => refuse("has a name that is too long"),
            _ => UnzipError::Disk(error),
        };
        if is_folder {
            return self.make_folder(&path).map_err(trouble);
        }
        if entry.size() > self.left {
            return Err(self.too_large());
        }
        drop(entry);
        let mut entry = archive
            .by_index(index)
            .map_err(|error| refuse(&format!("cannot be read: {error}")))?;
        let parent = path.parent().expect("it is inside the target");
        self.make_folder(parent).map_err(trouble)?;
        // Never a file that is there.
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(trouble)?;
        self.made += 1;
        self.copy(&mut entry, file, &name)
    }

    /// Makes a folder and those that it is in, as far as they are not there.
    fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Ok(()) => self.made += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_folder(path.parent().expect("it is inside the target"))?;
                return self.make_folder(path);
            }
            Err(_) if path.is_dir() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// What comes of an entry, whatever it says of its size.
    fn copy(
        &mut self,
        entry: &mut ZipFile<'_, Limited>,
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
            file.write_all(&buffer[..read])?;
        }
    }

    fn too_large(&self) -> UnzipError {
        UnzipError::TooLarge {
            limit: self.limits.bytes,
            because: self.because.clone(),
        }
    }
}

/// A file of which only so much is read, as long as there is a limit.
struct Limited {
    file: File,
    left: Rc<Cell<Option<u64>>>,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.left.get() else {
            return self.file.read(buffer);
        };
        if left == 0 {
            return Err(io::Error::other("no more of it is read"));
        }
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        self.left.set(Some(left - read as u64));
        Ok(read)
    }
}

impl Seek for Limited {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// An entry's name as a path that leads nowhere but down; a folder may be the one that all are in.
fn relative(name: &str, is_folder: bool) -> Result<PathBuf, &'static str> {
    if name.contains('\0') {
        return Err("has a name that no file can have");
    }
    // Archives made on Windows may have either.
    let parts = name.split(['/', '\\']);
    let parts: Vec<&str> = parts.filter(|part| !["", "."].contains(part)).collect();
    let drive = matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    let nothing = parts.is_empty() && !is_folder;
    if name.starts_with(['/', '\\']) || drive || parts.contains(&"..") || nothing {
        return Err("would be written outside the folder of the archive");
    }
    if parts.len() > MAX_PARTS {
        return Err("is in too many folders, one in the other");
    }
    Ok(parts.iter().collect())
}

fn damaged(error: ZipError) -> UnzipError {
    UnzipError::Damaged {
        problem: error.to_string(),
    }
}

/// A name as it can be printed.
fn shown(name: &str) -> String {
    let end = name.floor_char_boundary(200);
    name[..end].escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_down_or_nowhere() {
        for (name, expected) in [
            ("a", Some("a")),
            ("a/b.txt", Some("a/b.txt")),
            ("./a//b/./c", Some("a/b/c")),
            (r"a\b.txt", Some("a/b.txt")),
            ("...", Some("...")),
            ("9:16.png", Some("9:16.png")),
            ("1:30pm.wav", Some("1:30pm.wav")),
            ("a:b", None),
            ("..", None),
            ("a/../b", None),
            ("../a", None),
            (r"..\a", None),
            (r"a\..\..\b", None),
            ("/etc/passwd", None),
            (r"\a", None),
            (r"\\host\share\a", None),
            (r"C:\a", None),
            ("C:a", None),
            ("a\0b", None),
            ("", None),
            (".", None),
        ] {
            let found = relative(name, false).ok();
            assert_eq!(found.as_deref(), expected.map(Path::new), "{name:?}");
        }
        for (name, good) in [("./", true), (".", true), ("/", false), ("../", false)] {
            assert_eq!(relative(name, true).is_ok(), good, "{name:?}");
        }
    }
}
