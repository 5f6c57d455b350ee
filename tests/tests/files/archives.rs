//! Malicious archives: each is refused with a reason, and leaves no files in the job's folder or outside it.

use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podwork::files::Unzip;
use podwork::testing::TestJob;
use podwork::{Context, Result, handler};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Handle;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

#[derive(Deserialize)]
struct Request {
    archive: PathBuf,
    max_bytes: Option<u64>,
    max_entries: Option<usize>,
    max_ratio: Option<u64>,
}

impl Request {
    fn unzip<'a>(&self, cx: &'a Context) -> Unzip<'a> {
        let mut unzip = Unzip::new(cx);
        if let Some(bytes) = self.max_bytes {
            unzip = unzip.max_bytes(bytes);
        }
        if let Some(entries) = self.max_entries {
            unzip = unzip.max_entries(entries);
        }
        if let Some(times) = self.max_ratio {
            unzip = unzip.max_ratio(times);
        }
        unzip
    }
}

/// Extracts an archive, and returns the error and the contents of the job's folder.
#[handler]
async fn unpack(request: Request, cx: Context) -> Result<Value> {
    let extracted = request.unzip(&cx).extract(&request.archive).await;
    told(&cx, extracted.map_err(|error| error.to_string()))
}

#[handler]
fn unpack_blocking(request: Request, cx: Context) -> Result<Value> {
    let extracted = request.unzip(&cx).extract_blocking(&request.archive);
    told(&cx, extracted.map_err(|error| error.to_string()))
}

fn told(cx: &Context, extracted: Result<PathBuf, String>) -> Result<Value> {
    let folder = cx.folder()?;
    let mut all = Vec::new();
    list(&folder, &folder, &mut all)?;
    all.sort();
    Ok(match extracted {
        Ok(path) => json!({ "at": path.strip_prefix(&folder)?, "all": all }),
        Err(error) => json!({ "error": error, "all": all }),
    })
}

fn list(folder: &Path, top: &Path, all: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.strip_prefix(top)?.display().to_string();
        if path.is_dir() {
            list(&path, top, all)?;
            all.push(format!("{name}/"));
        } else {
            all.push(format!("{name}: {}", std::fs::metadata(&path)?.len()));
        }
    }
    Ok(())
}

/// An archive, written byte by byte so that its headers can hold any values.
#[derive(Default, Clone)]
struct Archive {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
}

const REGULAR: u32 = 0o100_644;
const ENCRYPTED: u16 = 1;

impl Archive {
    /// Adds an uncompressed entry.
    fn entry(self, name: &str, mode: u32, data: &[u8]) -> Self {
        let len = u32::try_from(data.len()).unwrap();
        self.lying(name, mode, data, len, 0)
    }

    /// Adds an entry whose headers claim the length `len` and the flags `flags`.
    fn lying(mut self, name: &str, mode: u32, data: &[u8], len: u32, flags: u16) -> Self {
        let at = u32::try_from(self.bytes.len()).unwrap();
        self.bytes.extend(b"PK\x03\x04");
        let common = common(name, data, len, flags);
        self.bytes.extend(&common);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(data);
        self.listed(name, mode, &common, at)
    }

    /// Adds an entry to the central directory. Its data start at offset `at`.
    fn listed(mut self, name: &str, mode: u32, common: &[u8], at: u32) -> Self {
        self.directory.extend(b"PK\x01\x02");
        self.directory.extend([20, 3]); // made on Unix
        self.directory.extend(common);
        self.directory.extend([0; 6]);
        self.directory.extend((mode << 16).to_le_bytes());
        self.directory.extend(at.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.entries += 1;
        self
    }

    /// Ends the archive with ZIP64 records that claim `entries` entries.
    fn end_of_a_large_one(mut self, entries: u64) -> Vec<u8> {
        let at = self.bytes.len() as u64;
        self.bytes.extend(&self.directory);
        let record = self.bytes.len() as u64;
        self.bytes.extend(b"PK\x06\x06");
        self.bytes.extend(44_u64.to_le_bytes());
        self.bytes.extend([45, 3, 45, 0]);
        self.bytes.extend([0; 8]);
        for number in [entries, entries, self.directory.len() as u64, at] {
            self.bytes.extend(number.to_le_bytes());
        }
        self.bytes.extend(b"PK\x06\x07\0\0\0\0");
        self.bytes.extend(record.to_le_bytes());
        self.bytes.extend([1, 0, 0, 0]);
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend([0xff; 12]);
        self.bytes.extend([0, 0]);
        self.bytes
    }

    fn end(mut self) -> Vec<u8> {
        let at = u32::try_from(self.bytes.len()).unwrap();
        let len = u32::try_from(self.directory.len()).unwrap();
        self.bytes.extend(&self.directory);
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend(self.entries.to_le_bytes());
        self.bytes.extend(self.entries.to_le_bytes());
        self.bytes.extend(len.to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend([0, 0]);
        self.bytes
    }
}

/// Returns the fields that the two headers of an entry share.
fn common(name: &str, data: &[u8], len: u32, flags: u16) -> Vec<u8> {
    let mut bytes = vec![20, 0];
    bytes.extend(flags.to_le_bytes());
    bytes.extend([0, 0, 0, 0, 0x21, 0]); // method: stored; date: 1980
    bytes.extend(crc32(data).to_le_bytes());
    bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn crc32(data: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    };
    !data.iter().fold(!0, step)
}

/// Builds an archive of valid, deflated entries.
fn deflated(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, data) in entries {
        archive.start_file(*name, options).unwrap();
        archive.write_all(data).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Builds an archive with `copies` copies of the only entry of the archive `of`.
fn copies(copies: usize, of: &[u8]) -> Vec<u8> {
    let mut original = ZipArchive::new(Cursor::new(of)).unwrap();
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for n in 0..copies {
        let entry = original.by_index_raw(0).unwrap();
        archive.raw_copy_file_rename(entry, n.to_string()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Saves an archive to a temporary folder, and returns that folder and a request to extract the archive.
fn saved(archive: &[u8]) -> (TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.zip");
    std::fs::write(&path, archive).unwrap();
    (folder, json!({ "archive": path }))
}

async fn extracted(archive: &[u8], limits: Value) -> Value {
    let (_folder, mut request) = saved(archive);
    let limits = limits.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(limits);
    let job = TestJob::new(request.clone()).run::<unpack>().await;
    let output = job.result.unwrap();
    let blocking = TestJob::new(request).run::<unpack_blocking>().await;
    assert_eq!(output, blocking.result.unwrap());
    output
}

/// Returns why an archive is refused, after checking that it left no files.
async fn refused(archive: &[u8], limits: Value) -> String {
    let output = extracted(archive, limits).await;
    assert_eq!(output["all"], json!([]), "{output}");
    output["error"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_archive_is_extracted() {
    let archive = deflated(&[
        ("a.txt", b"hello"),
        ("b/c/d.txt", &[7; 10_000]),
        ("b/e.txt", b""),
    ]);
    let expected = json!({ "at": "images", "all": [
        "images/",
        "images/a.txt: 5",
        "images/b/",
        "images/b/c/",
        "images/b/c/d.txt: 10000",
        "images/b/e.txt: 0",
    ] });
    assert_eq!(extracted(&archive, json!({})).await, expected);

    // Windows tools write backslashes, and some tools write entries for folders.
    let archive = Archive::default()
        .entry("x/", 0o040_755, b"")
        .entry(r"x\y\z.txt", 0, b"hello")
        .entry("./x/run.sh", 0o104_777, b"#!/bin/sh")
        .end();
    let expected = json!({ "at": "images", "all": [
        "images/",
        "images/x/",
        "images/x/run.sh: 9",
        "images/x/y/",
        "images/x/y/z.txt: 5",
    ] });
    assert_eq!(extracted(&archive, json!({})).await, expected);
    // Some tools write an entry for the top folder, and a file name may contain a colon.
    let archive = Archive::default()
        .entry("./", 0o040_755, b"")
        .entry("./9:16.png", REGULAR, b"wide")
        .end();
    let expected = json!({ "at": "images", "all": ["images/", "images/9:16.png: 4"] });
    assert_eq!(extracted(&archive, json!({})).await, expected);
    assert_eq!(
        extracted(&Archive::default().end(), json!({})).await,
        json!({ "at": "images", "all": ["images/"] })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nested_archive_is_extracted_as_a_file() {
    let small = Archive::default().entry("a", REGULAR, b"hello");
    let large = small.clone().end_of_a_large_one(1);
    let outer = Archive::default()
        .entry("first", REGULAR, b"1")
        .entry("model.pt", REGULAR, &large);
    let expected = json!({ "at": "images", "all": [
        "images/", "images/first: 1", format!("images/model.pt: {}", large.len()),
    ] });
    for archive in [outer.clone().end(), outer.end_of_a_large_one(2)] {
        assert_eq!(extracted(&archive, json!({})).await, expected);
    }

    // An archive that follows other data is found as well.
    let archive = [b"#!/bin/sh\n".to_vec(), small.end()].concat();
    let output = extracted(&archive, json!({})).await;
    assert_eq!(output["all"], json!(["images/", "images/a: 5"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn path_traversal_is_refused() {
    let mark = format!("podwork-escaped-{}", std::process::id());
    let absolute = std::env::temp_dir().join(&mark).display().to_string();
    for name in [
        format!("../{mark}"),
        format!("../../{mark}"),
        format!("a/../../../{mark}"),
        format!("a/../{mark}"),
        format!(r"..\..\{mark}"),
        format!(r"a\..\..\..\{mark}"),
        format!("./../../{mark}/"),
        absolute.clone(),
        format!("/{absolute}"),
        format!(r"C:\{mark}"),
        format!(r"\\host\share\{mark}"),
        "..".to_owned(),
        ".".to_owned(),
        "/".to_owned(),
    ] {
        for mode in [REGULAR, 0o040_755] {
            if name == "." && mode != REGULAR {
                continue; // That folder exists already.
            }
            let archive = Archive::default()
                .entry("good.txt", REGULAR, b"good")
                .entry(&name, mode, b"")
                .end();
            let error = refused(&archive, json!({})).await;
            assert!(
                error.contains("would be extracted outside the target folder"),
                "{name}: {error}"
            );
        }
    }
    let archive = Archive::default().entry("a\0b", REGULAR, b"x").end();
    let error = refused(&archive, json!({})).await;
    assert!(error.contains("has a NUL byte in its name"), "{error}");
    assert!(!Path::new(&absolute).exists());
    assert!(!Path::new("/").join(&mark).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_devices_are_refused() {
    for (kind, what) in [
        (0o120_000, "a symbolic link"),
        (0o010_000, "a pipe"),
        (0o020_000, "a character device"),
        (0o060_000, "a block device"),
        (0o140_000, "a socket"),
    ] {
        // The second entry would be written through the first.
        let archive = Archive::default()
            .entry("link", kind | 0o777, b"/tmp")
            .entry("link/escaped", REGULAR, b"x")
            .end();
        let error = refused(&archive, json!({})).await;
        let expected = "the archive's entry `link` is a link or a device, not a file or a folder";
        assert_eq!(error, expected, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicting_entries_are_refused() {
    for (one, other, why) in [
        ("a", "a", "two of its entries have the same name"),
        ("a", "./a", "`./a` is a duplicate"),
        ("a/b", r"a\b", r"`a\\b` is a duplicate"),
        (
            "a",
            "a/b",
            "`a/b` is a duplicate, or is both a file and a folder",
        ),
        (
            "a/b",
            "a",
            "`a` is a duplicate, or is both a file and a folder",
        ),
    ] {
        let archive = Archive::default()
            .entry(one, REGULAR, b"1")
            .entry(other, REGULAR, b"2")
            .end();
        let error = refused(&archive, json!({})).await;
        assert!(error.contains(why), "{one}, {other}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zip_bombs_are_refused() {
    let zeros = vec![0; 70_000_000];
    let archive = deflated(&[("zeros", &zeros)]);
    let bomb = archive.as_slice();
    assert!(bomb.len() < 100_000);

    // The ratio is checked because 70 MB exceed the 64 MiB that are allowed at any ratio.
    let error = refused(bomb, json!({})).await;
    let why = format!(
        "more than 67108864 bytes, the limit for an archive of {} bytes",
        bomb.len()
    );
    assert!(error.ends_with(&why), "{error}");
    let output = extracted(bomb, json!({ "max_ratio": 2000 })).await;
    assert_eq!(output["all"], json!(["images/", "images/zeros: 70000000"]));

    // The total size of the extracted files is limited.
    let error = refused(bomb, json!({ "max_bytes": 1000 })).await;
    assert!(
        error.ends_with("more than 1000 bytes, the limit for extracted files"),
        "{error}"
    );

    // The limit applies to all entries together, even if each one is below it.
    let bomb = copies(4, &deflated(&[("zeros", &zeros[..20_000_000])]));
    let error = refused(&bomb, json!({})).await;
    assert!(error.contains("more than 67108864 bytes"), "{error}");

    // A header that claims a small size does not help.
    let mut bomb = archive;
    let says = u32::try_from(zeros.len()).unwrap().to_le_bytes();
    let places: Vec<_> = (0..bomb.len() - 4)
        .filter(|at| bomb[*at..*at + 4] == says)
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bomb[at..at + 4].copy_from_slice(&10_u32.to_le_bytes());
    }
    let error = refused(&bomb, json!({})).await;
    assert!(
        error.contains("`zeros` cannot be read") || error.contains("67108864"),
        "{error}"
    );

    // The number of entries is limited.
    let many = (0..1001).fold(Archive::default(), |archive, n| {
        archive.entry(&format!("{n}"), REGULAR, b"")
    });
    let error = refused(&many.end(), json!({ "max_entries": 1000 })).await;
    assert!(
        error.starts_with("the archive has more than 1000 files and folders"),
        "{error}"
    );

    // Folders that only appear in names count as well.
    let deep = |n: u32| format!("{n}/{}", "a/".repeat(20));
    let few = (0..50).fold(Archive::default(), |archive, n| {
        archive.entry(&format!("{}f", deep(n)), REGULAR, b"")
    });
    let few = few.end();
    let error = refused(&few, json!({ "max_entries": 1000 })).await;
    assert!(
        error.contains("more than 1000 files and folders"),
        "{error}"
    );
    // 50 files, each in 21 folders.
    let output = extracted(&few, json!({ "max_entries": 50 * 22 })).await;
    assert_eq!(output["all"].as_array().unwrap().len(), 1 + 50 * 22);

    // The claimed number of entries counts, even if the archive has room for that many.
    let junk = Archive::default().entry("junk", REGULAR, &vec![0; 1_000_000]);
    let archive = junk.clone().end_of_a_large_one(20_000);
    let error = refused(&archive, json!({ "max_entries": 1000 })).await;
    assert!(
        error.contains("more than 1000 files and folders"),
        "{error}"
    );

    // The ZIP64 record is only read at the offset that its locator names.
    let archive = [b"x".to_vec(), junk.clone().end_of_a_large_one(1)].concat();
    let error = refused(&archive, json!({})).await;
    assert!(error.contains("cannot read the archive: "), "{error}");

    // The claim of a valid end record counts even if an invalid one follows.
    let mut archive = junk.clone().end_of_a_large_one(20_000);
    let no_end = [b"PK\x05\x06".as_slice(), &[7; 16], &[0; 2]].concat();
    let comment = archive.len() - 2;
    archive[comment] = 22;
    archive.extend(no_end);
    let error = refused(&archive, json!({ "max_entries": 1000 })).await;
    assert!(
        error.contains("more than 1000 files and folders"),
        "{error}"
    );
    let output = extracted(&junk.end_of_a_large_one(1), json!({})).await;
    assert_eq!(output["all"], json!(["images/", "images/junk: 1000000"]));

    // The size of the entry list is limited, even if it holds few entries.
    let long = "n".repeat(60_000);
    let few = (0..50).fold(Archive::default(), |archive, n| {
        archive.entry(&format!("{n}{long}"), REGULAR, b"")
    });
    let error = refused(&few.end(), json!({ "max_entries": 100 })).await;
    assert!(error.contains("its list of entries is too long"), "{error}");

    // Entries that share the same data are refused.
    let data = vec![0; 10_000];
    let bomb = Archive::default().entry("0", REGULAR, &data);
    let same = common("1", &data, 10_000, 0);
    let bomb = (1..10).fold(bomb, |bomb, n| {
        bomb.listed(&n.to_string(), REGULAR, &same, 0)
    });
    assert!(
        refused(&bomb.end(), json!({}))
            .await
            .contains("its entries overlap")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_archives_are_refused() {
    let good = deflated(&[("a.txt", &[b"hello ".as_slice(); 100].concat())]);
    let mut torn = good.clone();
    torn.truncate(good.len() / 2);
    let encrypted = Archive::default().lying("a", REGULAR, b"0123456789ab", 0, ENCRYPTED);
    let mut spoilt = Archive::default().entry("a", REGULAR, b"hello").end();
    spoilt[31] = b'J';
    let long = "n".repeat(300);
    for (archive, why) in [
        (b"".to_vec(), "cannot read the archive: "),
        (b"<html>404</html>".to_vec(), "cannot read the archive: "),
        (torn, "cannot read the archive: "),
        (encrypted.end(), "`a` is encrypted"),
        (spoilt, "`a` cannot be read: "),
        (
            Archive::default().entry(&long, REGULAR, b"").end(),
            "has a name that is too long",
        ),
        (
            Archive::default()
                .entry(&format!("{}/", &long[..200]).repeat(30), 0o040_755, b"")
                .end(),
            "has a name that is too long",
        ),
        (
            Archive::default()
                .entry(&"n/".repeat(65), 0o040_755, b"")
                .end(),
            "is nested in too many folders",
        ),
    ] {
        let error = refused(&archive, json!({})).await;
        assert!(error.contains(why), "{error}");
    }
}

/// Extracts an archive. Reports the job's folder as progress before that.
#[handler]
async fn extract(archive: PathBuf, cx: Context) -> Result<String> {
    cx.progress(cx.folder()?);
    let folder = Unzip::new(&cx)
        .max_ratio(u64::MAX)
        .extract(&archive)
        .await?;
    Ok(folder.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timed_out_job_stops_extracting() {
    // Far more data than the job can extract before its timeout.
    let archive = copies(150, &deflated(&[("zeros", &vec![0; 20_000_000])]));
    let (_folder, request) = saved(&archive);
    let job = TestJob::new(request["archive"].clone()).job_timeout(Duration::from_secs(1));
    let job = job.run::<extract>().await;
    assert_eq!(job.result.unwrap_err().kind(), "timeout");
    let folder = job.progress[0].as_str().unwrap();
    assert!(!Path::new(folder).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timed_out_job_creates_no_folders() {
    type Ended = Arc<Mutex<Option<String>>>;

    #[handler]
    fn late(archive: PathBuf, cx: Context, ended: &Ended) -> Result<PathBuf> {
        let extracted = Handle::current().block_on(async {
            cx.cancelled().await;
            Unzip::new(&cx).extract(&archive).await
        });
        *ended.lock().unwrap() = Some(format!("{extracted:?}"));
        Ok(extracted?)
    }

    let archive = Archive::default().entry("folder/", 0o040_755, b"").end();
    let (_folder, request) = saved(&archive);
    let ended = Ended::default();
    let job = TestJob::new(request["archive"].clone())
        .state(Arc::clone(&ended))
        .job_timeout(Duration::from_millis(50));
    let job = job.run::<late>().await;
    assert_eq!(job.result.unwrap_err().kind(), "timeout");
    assert_eq!(ended.lock().unwrap().as_deref(), Some("Err(Stopped)"));
}
