//! The number of entries that a ZIP64 archive claims. It is checked before the reader opens the archive, because the
//! reader allocates memory for that number of entries at once.

use std::io::{self, Read, Seek, SeekFrom};

/// The number of bytes at the end of an archive that may contain its end record: the record, and the longest comment.
const END: u64 = 70_000;
const END_RECORD: &[u8] = b"PK\x05\x06";
/// The signature of the locator, which directly precedes an end record that is too small for its archive. It contains
/// the offset of the larger record.
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_LEN: usize = 20;
/// The signature of the larger record, which directly precedes the locator.
const LARGE_RECORD: &[u8] = b"PK\x06\x06";
const LARGE_RECORD_LEN: usize = 56;

/// Returns the largest number of entries that any large end record claims, of those that a locator points to; `None` if
/// there is no locator. The reader must therefore not look for records elsewhere. (A small record cannot claim more
/// than 65,535 entries.)
///
/// A locator need not point to a record: it may belong to an archive that is stored inside this one.
pub(super) fn claimed_entries(archive: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    let len = archive.seek(SeekFrom::End(0))?;
    let start = archive.seek(SeekFrom::Start(len.saturating_sub(END)))?;
    let mut end = Vec::new();
    archive.take(END).read_to_end(&mut end)?;

    let mut most = None;
    for at in LOCATOR_LEN..end.len() {
        let locator = at - LOCATOR_LEN;
        if !end[at..].starts_with(END_RECORD) || !end[locator..].starts_with(LOCATOR) {
            continue;
        }
        let record = number(&end[locator + 8..]);
        let room = (start + locator as u64).saturating_sub(record);
        let claimed = most.get_or_insert(0);
        if room < LARGE_RECORD_LEN as u64 {
            continue;
        }
        archive.seek(SeekFrom::Start(record))?;
        let mut large = [0; LARGE_RECORD_LEN];
        archive.read_exact(&mut large)?;
        if large.starts_with(LARGE_RECORD) {
            // The reader reads the rest of a longer record into memory, too.
            let has_more = room > LARGE_RECORD_LEN as u64;
            let entries = number(&large[32..]);
            *claimed = if has_more {
                u64::MAX
            } else {
                entries.max(*claimed)
            };
        }
    }
    Ok(most)
}

fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.first_chunk().expect("the records are long enough");
    u64::from_le_bytes(*bytes)
}
