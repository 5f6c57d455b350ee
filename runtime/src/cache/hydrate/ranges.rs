//! Combines reads of files that are close together in an object.

use std::path::PathBuf;

use crate::cache::manifest::FileEntry;

/// Maximum size of one read, in bytes. A longer file is copied in parts.
pub(super) const MAX_RANGE: u64 = 1024 * 1024;
/// Maximum gap between two files of one read, in bytes: a second read would take longer than reading the gap.
const MAX_GAP: u64 = 128 * 1024;

/// A file to copy from the volume.
pub(super) struct MissingFile<'a> {
    /// The name of its directory.
    pub(super) directory: &'a str,
    /// The path relative to the directory.
    pub(super) path: &'a str,
    /// The path of the staged file, which is moved once all files are complete.
    pub(super) staged: PathBuf,
    pub(super) entry: &'a FileEntry,
}

/// Files of one object that are read together.
pub(super) struct ObjectRange<'a> {
    pub(super) object: &'a str,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) files: Vec<MissingFile<'a>>,
}

/// Groups files that are close together in an object.
pub(super) fn ranges(mut files: Vec<MissingFile<'_>>) -> Vec<ObjectRange<'_>> {
    files.sort_by(|a, b| (&a.entry.object, a.entry.at).cmp(&(&b.entry.object, b.entry.at)));
    let mut ranges: Vec<ObjectRange<'_>> = Vec::new();
    for file in files {
        let (start, end) = (file.entry.at, file.entry.at + file.entry.size);
        match ranges.last_mut() {
            Some(range)
                if range.object == file.entry.object
                    && start <= range.end.saturating_add(MAX_GAP)
                    && end.max(range.end).saturating_sub(range.start) <= MAX_RANGE =>
            {
                range.end = range.end.max(end);
                range.files.push(file);
            }
            _ => ranges.push(ObjectRange {
                object: &file.entry.object,
                start,
                end,
                files: vec![file],
            }),
        }
    }
    // The longest ranges first, so that no thread starts a long one last.
    ranges.sort_by_key(|range| std::cmp::Reverse(range.end - range.start));
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::sha256::Sum;

    #[test]
    fn a_range_of_several_files_is_short() {
        // Overlapping files, as in a manifest that this code did not write.
        let entries = [(0, 1 << 40), (0, 0), (10, 10)].map(|(at, size)| FileEntry {
            size,
            mtime: 0,
            mode: 0,
            sha256: Sum::of(b""),
            object: "a/1".to_owned(),
            at,
        });
        let files = entries.iter().map(|entry| MissingFile {
            directory: "/x",
            path: "file",
            staged: PathBuf::new(),
            entry,
        });
        for range in ranges(files.collect()) {
            let len = range.end - range.start;
            assert!(range.files.len() == 1 || len <= MAX_RANGE, "{len}");
        }
    }
}
