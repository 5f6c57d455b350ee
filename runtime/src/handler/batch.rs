//! What a handler is given when it takes several jobs at once.

use std::ops::Deref;

use crate::handler::Context;

/// The inputs of jobs that waited together, for a handler that takes them by one call: ask for it with a parameter of
/// this type in place of an input.
///
/// It derefs to the slice of the inputs, so what takes a `&[T]` can be handed all of them. The job that an input is of
/// is the [`Context`] at the same place in [`contexts`](Self::contexts): its id, its progress, whether it is to stop.
/// The handler returns a `Vec` with one entry for each job, in the same order.
///
/// Tests can make one of any inputs, to call the handler as the function it is: `["a", "b"].into_iter().collect()`.
///
/// ```
/// use podwork::{Batch, Result, handler};
///
/// #[handler(max_batch = 32, max_wait = "10ms")]
/// fn lengths(texts: Batch<String>) -> Vec<Result<usize>> {
///     let length = |text: &String| match text.len() {
///         0 => Err("an empty text has no length".into()), // fails this job alone
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
    /// As many as there are inputs.
    contexts: Vec<Context>,
}

impl<T> Batch<T> {
    pub(crate) fn new(jobs: impl IntoIterator<Item = (T, Context)>) -> Self {
        let (inputs, contexts) = jobs.into_iter().unzip();
        Self { inputs, contexts }
    }

    /// The jobs' contexts, in the order of their inputs.
    pub fn contexts(&self) -> &[Context] {
        &self.contexts
    }

    /// The inputs, and the contexts of their jobs, to be taken apart.
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

/// For tests: the jobs are no real ones. Their ids are `0`, `1` and so on, and nobody hears their progress.
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
