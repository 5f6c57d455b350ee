//! The input of handlers that take several jobs at once.

use std::ops::Deref;

use crate::handler::Context;

/// The inputs of several jobs, for a handler that takes them in one call. Use it as the type of a parameter, in place
/// of the type of one input.
///
/// A batch derefs to the slice of its inputs, so it can be passed to functions that take a `&[T]`. The [`Context`] at
/// the same index in [`contexts`](Self::contexts) belongs to the job of that input: its id, its progress, its
/// cancellation. The handler returns a `Vec` with one entry for each job, in the same order.
///
/// Tests can collect inputs into a batch and call the handler as a plain function: `["a", "b"].into_iter().collect()`.
///
/// ```
/// use podwork::{Batch, Result, handler};
///
/// #[handler(max_batch = 32, max_wait = "10ms")]
/// fn lengths(texts: Batch<String>) -> Vec<Result<usize>> {
///     let length = |text: &String| match text.len() {
///         0 => Err("an empty text has no length".into()), // fails only this job
///         length => Ok(length),
///     };
///     for cx in texts.contexts() {
///         cx.progress("measuring");
///     }
///     texts.iter().map(length).collect()
/// }
///
/// let batch = ["one", ""].map(String::from).into_iter().collect();
/// let lengths = lengths(batch);
/// assert_eq!(*lengths[0].as_ref().unwrap(), 3);
/// assert!(lengths[1].is_err());
/// ```
#[derive(Debug)]
pub struct Batch<T> {
    inputs: Vec<T>,
    /// The contexts of the jobs, in the order of the inputs.
    contexts: Vec<Context>,
}

impl<T> Batch<T> {
    pub(crate) fn new(jobs: impl IntoIterator<Item = (T, Context)>) -> Self {
        let (inputs, contexts) = jobs.into_iter().unzip();
        Self { inputs, contexts }
    }

    /// Returns the contexts of the jobs, in the order of their inputs.
    pub fn contexts(&self) -> &[Context] {
        &self.contexts
    }

    /// Splits the batch into the inputs and the contexts of their jobs.
    pub fn into_parts(self) -> (Vec<T>, Vec<Context>) {
        (self.inputs, self.contexts)
    }
}

impl<T> Deref for Batch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.inputs
    }
}

impl<T> IntoIterator for Batch<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.inputs.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Batch<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.inputs.iter()
    }
}

/// Creates a batch for tests. It has no real jobs: their ids are `0`, `1` and so on, and their progress is discarded.
impl<T> FromIterator<T> for Batch<T> {
    fn from_iter<I: IntoIterator<Item = T>>(inputs: I) -> Self {
        let inputs: Vec<T> = inputs.into_iter().collect();
        let contexts = (0..inputs.len()).map(|n| Context::detached(n.to_string()));
        Self {
            contexts: contexts.collect(),
            inputs,
        }
    }
}
