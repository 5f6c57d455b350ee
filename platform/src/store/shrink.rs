//! Shrinking of hash tables.

use std::collections::HashMap;
use std::hash::Hash;

/// The capacity up to which a table is not shrunk.
const SMALL: usize = 1024;

/// Shrinks a table that once held far more entries than it does now.
pub(super) fn shrink<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    // The thresholds are far apart, so that a table does not shrink and grow again and again.
    if table.capacity() > SMALL.max(8 * table.len()) {
        table.shrink_to(2 * table.len());
    }
}
