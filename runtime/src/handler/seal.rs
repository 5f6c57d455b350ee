//! What keeps public traits from being implemented outside of this crate.

/// A parameter whose type has no public name: a trait whose method takes it cannot be implemented elsewhere.
#[derive(Debug)]
pub struct Seal;
