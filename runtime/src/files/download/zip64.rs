//! How many entries a large archive says it has, before its list of them is read: room for so many is set aside at once.

use std::io::{self, Read, Seek, SeekFrom};

/// Bytes at the end of an archive in which its end record is looked for: the record, and the longest comment.
const END: u64 = 70_000;
const END_RECORD: &[u8] = b"PK\x05\x06";
/// Stands right before an end record that is too small for its archive, and says where the larger one is …
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_LEN: usize = 20;
/// … which stands right before the locator.
const LARGE_RECORD_LEN: usize = 56;

/// The most entries that any large end record claims; 0, if there is none. `None`: one is not where it should be, so
/// that another reader may find others. (A small record cannot claim more than 65,535.)
pub(super) fn claimed_entries(archive: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    let len = archive.seek(SeekFrom::End(0))?;
    let start = archive.seek(SeekFrom::Start(len.saturating_sub(END)))?;
    let mut end = Vec::new();
    archive.take(END).read_to_end(&mut end)?;

    let mut most = 0;
    for at in 0..end.len() {
        let before = at.checked_sub(LOCATOR_LEN);
        let Some(locator) = before.filter(|_| end[at..].starts_with(END_RECORD)) else {
            continue;
        };
        if !end[locator..].starts_with(LOCATOR) {
            continue;
        }
        let Some(record) = locator.checked_sub(LARGE_RECORD_LEN) else {
            return Ok(None);
        };
        if number(&end[locator + 8..]) != start + record as u64 {
            return Ok(None);
        }
        most = most.max(number(&end[record + 32..]));
    }
    Ok(Some(most))
}

fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.first_chunk().expect("the records are long enough");
    u64::from_le_bytes(*bytes)
}
