//! How far files are.

use serde::Serialize;

/// How far downloads are, or an upload; as progress it reads `{"bytes": 1048576, "of": 4194304}`.
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
    /// Bytes that have come, or gone.
    pub bytes: u64,
    /// Bytes there will be; not known where nobody says it.
    pub of: Option<u64>,
}
