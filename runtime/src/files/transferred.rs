//! The progress of file transfers.

use serde::Serialize;

/// The progress of downloads or of an upload. It serializes as `{"bytes": 1048576, "of": 4194304}`.
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
    /// The number of bytes transferred so far.
    pub bytes: u64,
    /// The total number of bytes; `None` if it is unknown.
    pub of: Option<u64>,
}
