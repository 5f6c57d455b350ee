//! How many entries a large archive says it has, before its list of them is read: room for so many is set aside at once.

use std::io::{self, Read, Seek, SeekFrom};

/// Bytes at the end of an archive in which its end record is looked for: the record, and the longest comment.
const END: u64 = 70_000;
const END_RECORD: &[u8] = b"PK\x05\x06";
/// Stands right before an end record that is too small for its archive, and says where the larger one is …
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_LEN: usize = 20;
/// … which stands right before the locator.
const LARGE_RECORD: &[u8] = b"PK\x06\x06";
const LARGE_RECORD_LEN: usize = 56;

/// The most entries that any large end record claims, of those where a locator says that one is; `None`, if there is no
/// locator. So the reader must not look elsewhere. (A small record cannot claim more than 65,535.)
///
/// Where a locator says there need be none: it may be that of an archive which is stored in this one.
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
            // What else there is in a record is read into memory, too.
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
