//! The progress of several downloads.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::files::transferred::Transferred;

/// Sums up the progress of several downloads, and reports the total.
pub(super) struct Tally<'a> {
    report: Option<&'a (dyn Fn(Transferred) + Send + Sync)>,
    // Never locked across an await, nor while reporting.
    sums: Mutex<Sums>,
}

/// The totals. They are updated file by file, because there may be many files.
#[derive(Debug)]
struct Sums {
    files: Vec<Transferred>,
    bytes: u64,
    /// The sum of the known sizes.
    of: u64,
    unknown: usize,
}

impl fmt::Debug for Tally<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sums.fmt(f)
    }
}

impl<'a> Tally<'a> {
    pub(super) fn new(
        files: usize,
        report: Option<&'a (dyn Fn(Transferred) + Send + Sync)>,
    ) -> Self {
        let sums = Mutex::new(Sums {
            files: vec![Transferred { bytes: 0, of: None }; files],
            bytes: 0,
            of: 0,
            unknown: files,
        });
        Self { report, sums }
    }

    /// Records the number of bytes received of a file, and its size if known.
    pub(super) fn note(&self, file: usize, bytes: u64, of: Option<u64>) {
        let Some(report) = self.report else { return };
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = sums.replace(file, Transferred { bytes, of });
        drop(sums);
        report(sum);
    }
}

impl Sums {
    fn replace(&mut self, file: usize, new: Transferred) -> Transferred {
        let old = std::mem::replace(&mut self.files[file], new);
        self.bytes = self.bytes - old.bytes + new.bytes;
        self.of = self.of - old.of.unwrap_or(0) + new.of.unwrap_or(0);
        self.unknown = self.unknown - usize::from(old.of.is_none()) + usize::from(new.of.is_none());
        Transferred {
            bytes: self.bytes,
            of: (self.unknown == 0).then_some(self.of),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_size_is_unknown_if_any_size_is_unknown() {
        let told = Mutex::new(Vec::new());
        let report = |so_far: Transferred| told.lock().unwrap().push((so_far.bytes, so_far.of));
        let tally = Tally::new(2, Some(&report));
        tally.note(0, 10, Some(100));
        tally.note(1, 5, None);
        tally.note(1, 7, Some(7));
        // The download started again, and the file has another size by now.
        tally.note(0, 0, Some(50));
        tally.note(0, 50, Some(50));
        let expected = [
            (10, None),
            (15, None),
            (17, Some(107)),
            (7, Some(57)),
            (57, Some(57)),
        ];
        assert_eq!(*told.lock().unwrap(), expected);
    }
}
