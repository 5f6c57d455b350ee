//! How far downloads are.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// How far downloads are; as progress it reads `{"bytes": 1048576, "of": 4194304}`.
///
/// ```
/// use podwork::files::Transferred;
///
/// fn percent(so_far: Transferred) -> Option<u64> {
///     Some(100 * so_far.bytes / so_far.of?.max(1))
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Transferred {
    /// Bytes that have come.
    pub bytes: u64,
    /// Bytes there will be; not known where a server does not say it.
    pub of: Option<u64>,
}

/// Sums up several downloads for one who wants to know.
pub(super) struct Tally<'a> {
    report: Option<&'a (dyn Fn(Transferred) + Send + Sync)>,
    // Never held across an await, nor while reporting.
    files: Mutex<Vec<Transferred>>,
}

impl fmt::Debug for Tally<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl<'a> Tally<'a> {
    pub(super) fn new(
        files: usize,
        report: Option<&'a (dyn Fn(Transferred) + Send + Sync)>,
    ) -> Self {
        let unknown = Transferred { bytes: 0, of: None };
        let files = Mutex::new(vec![unknown; files]);
        Self { report, files }
    }

    /// So much of a file has come.
    pub(super) fn note(&self, file: usize, bytes: u64, of: Option<u64>) {
        let Some(report) = self.report else { return };
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files[file] = Transferred { bytes, of };
        let sum = Transferred {
            bytes: files.iter().map(|file| file.bytes).sum(),
            of: files.iter().map(|file| file.of).sum(),
        };
        drop(files);
        report(sum);
    }
}
