//! The seal that prevents implementations of public traits outside of this crate.

/// A parameter type without a public name: a trait with a method that takes it cannot be implemented elsewhere.
#[derive(Debug)]
pub struct Seal;
