//! Outputs of handlers: plain values and `Result`s, of one job or of a batch.

use std::fmt;
use std::marker::PhantomData;

use futures::Stream;
use serde::Serialize;

use crate::error::HandlerError;
use crate::handler::json::to_raw_value;
use crate::handler::{Outcome, Outcomes, Output};

/// The type of an output, which decides its [tag](PlainShape): `Result`, or anything else.
///
/// The method for `Result` is inherent, so it takes precedence over the trait's. Neither has bounds: otherwise a
/// `Result` that does not meet them would count as a plain value, and a failed job as a completed one.
pub struct OutputShape<T>(PhantomData<fn() -> T>);

impl<T> OutputShape<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for OutputShape<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for OutputShape<T> {}

impl<T> fmt::Debug for OutputShape<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutputShape")
    }
}

impl<T, E> OutputShape<Result<T, E>> {
    /// Returns the tag of a `Result`, whose `Err` fails the job.
    pub fn tag(self) -> FallibleTag {
        FallibleTag
    }
}

/// Implemented for every shape. For `Result` the inherent method takes precedence.
pub trait PlainShape: Sized {
    /// Returns the tag of a plain value, which is the output.
    fn tag(self) -> PlainTag {
        PlainTag
    }
}

impl<T> PlainShape for OutputShape<T> {}

/// Returns the shape of an output.
pub fn shape<T>(_: &T) -> OutputShape<T> {
    OutputShape::new()
}

/// Returns the shape of a stream's items.
pub fn stream_shape<S: Stream>(_: &S) -> OutputShape<S::Item> {
    OutputShape::new()
}

/// Returns the shape of an iterator's items.
pub fn iterator_shape<I: Iterator>(_: &I) -> OutputShape<I::Item> {
    OutputShape::new()
}

/// The tag of outputs that are plain values.
#[derive(Debug)]
pub struct PlainTag;

impl PlainTag {
    /// Returns the results of a batch.
    ///
    /// # Errors
    /// Never returns an error.
    pub fn whole<V>(self, results: V) -> Result<V, HandlerError> {
        Ok(results)
    }

    /// Returns a function that encodes the output. The bound is on this method, since its type argument has a span in
    /// the user's code.
    pub fn encoder<T: Output>(self) -> fn(T) -> Outcome {
        |output| encode(&output)
    }
}

/// The tag of outputs that are a `Result`.
#[derive(Debug)]
pub struct FallibleTag;

impl FallibleTag {
    /// Returns the results of a batch.
    ///
    /// # Errors
    /// Returns the handler's error, which fails all jobs of the batch.
    pub fn whole<R: FallibleBatch>(self, results: R) -> Result<R::BatchResults, HandlerError> {
        results.whole()
    }

    /// Returns a function that encodes the output, or fails the job.
    pub fn encoder<R: FallibleOutput>(self) -> fn(R) -> Outcome {
        R::into_outcome
    }
}

/// Returns the shape of one result of a batch.
pub fn results_shape<V: BatchResults>(_: &V) -> OutputShape<V::Item> {
    OutputShape::new()
}

/// A `Result` of an output.
pub trait FallibleOutput {
    /// Returns the output's JSON, or the error.
    fn into_outcome(self) -> Outcome;
}

impl<T: Output, E: IntoHandlerError> FallibleOutput for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        encode(&self.map_err(Into::into)?)
    }
}

/// A type that can be a handler's error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's error",
    label = "not `std::error::Error`",
    note = "implement `std::error::Error` for it, with `thiserror` for example, or return `podwork::Result` and \
            convert the errors with `?`; a boxed error must be a `Box<dyn std::error::Error + Send + Sync>`"
)]
pub trait IntoHandlerError: Into<HandlerError> {}

#[diagnostic::do_not_recommend]
impl<E: Into<HandlerError>> IntoHandlerError for E {}

/// The results of a batch: the return type of a handler of batches, or the `Ok` of its `Result`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not one result for each job of a batch",
    label = "not a `Vec`",
    note = "a handler that takes a `Batch` returns a `Vec<T>` or `Vec<podwork::Result<T>>` with one entry for each job, in \
            their order; or a `Result` of such a `Vec`, whose `Err` fails them all"
)]
pub trait BatchResults {
    /// The result of one job.
    type Item;

    /// Returns the results, in the order of the jobs.
    fn all(self) -> Vec<Self::Item>;
}

impl<T> BatchResults for Vec<T> {
    type Item = T;

    fn all(self) -> Self {
        self
    }
}

/// A `Result` of the results of a batch.
pub trait FallibleBatch {
    /// The results in its `Ok`.
    type BatchResults: BatchResults;

    /// Returns the results, or the error that fails all jobs.
    fn whole(self) -> Result<Self::BatchResults, HandlerError>;
}

impl<V: BatchResults, E: IntoHandlerError> FallibleBatch for Result<V, E> {
    type BatchResults = V;

    fn whole(self) -> Result<V, HandlerError> {
        self.map_err(Into::into)
    }
}

/// Encodes the results of a batch.
///
/// # Errors
/// Returns an error if the number of results is not the number of jobs.
pub fn outcomes<V: BatchResults>(
    results: V,
    jobs: usize,
    encode: fn(V::Item) -> Outcome,
) -> Outcomes {
    let results = results.all();
    if results.len() != jobs {
        let message = format!(
            "the handler returned {} results for {jobs} job(s): return one for each, in the order of the batch",
            results.len()
        );
        return Err(HandlerError::new("invalid_output", message));
    }
    Ok(results.into_iter().map(encode).collect())
}

pub(super) fn encode<T: Serialize>(output: &T) -> Outcome {
    to_raw_value(output).map_err(|error| {
        HandlerError::new(
            "invalid_output",
            format!("cannot write the output as JSON: {error}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_a_result_needs_no_bounds_on_its_types() {
        struct NoOutput;

        // These types do not meet any of the bounds.
        let _: FallibleTag = shape(&Ok::<NoOutput, NoOutput>(NoOutput)).tag();
        let _: FallibleTag =
            stream_shape(&futures::stream::empty::<crate::error::Result<NoOutput>>()).tag();
        let _: PlainTag = shape(&NoOutput).tag();
        let _: PlainTag = iterator_shape(&[Some(1)].into_iter()).tag();
    }
}
