//! Hash tables that give room back.

use std::collections::HashMap;
use std::hash::Hash;

/// A table smaller than this keeps its room.
const SMALL: usize = 1024;

/// Gives back the room of a table that once held far more than it does now.
pub(super) fn shrink<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    // Far apart, so that tables do not move to and fro.
    if table.capacity() > SMALL.max(8 * table.len()) {
        table.shrink_to(2 * table.len());
    }
}
