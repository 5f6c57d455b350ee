//! What the code written by `#[handler]` calls. No part of the public face: it may change with any release.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, Stream, StreamExt as _};
use podwork_protocol::RawValue;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::task::coop::consume_budget;

pub use inventory;

#[cfg(feature = "schema")]
pub mod schema;

#[cfg(feature = "validate")]
pub use crate::handler::validate::Checked;
pub use crate::handler::{BatchHandler, Batching, Call, Outcome, Outcomes, Reply, Weighing};
pub use crate::health::fitness::Registered;

use crate::delivery::outbox::{Chunks, Closed};
use crate::error::HandlerError;
use crate::handler::Batch;
use crate::handler::json::to_raw_value;
use crate::handler::seal::Seal;
use crate::handler::state::{Given, StateSource as _};
use crate::handler::{Handler, Output};
use crate::health::fitness::MachineCheck;

/// Runs a function under `#[fitness_check]`; a panic is its error.
pub fn fitness<M>(check: impl MachineCheck<M>) -> BoxFuture<'static, Result<(), HandlerError>> {
    Given::setup(check).make(Seal)
}

/// A handler's work as a future, for the async runtime.
pub fn future<T>(work: impl Future<Output = Result<T, HandlerError>> + Send + 'static) -> Reply<T> {
    Reply::Async(Box::pin(work))
}

/// A handler's work as a function, for a thread on which it may block. What it needs comes with the call, so all else
/// it makes may stay on that thread, `Send` or not.
pub fn blocking<H: Handler>(call: Call<H::State>, work: fn(Call<H::State>) -> Outcome) -> Reply {
    Reply::Blocking(Box::new(move || work(call)))
}

/// … of a handler of batches.
pub fn blocking_batch<H: BatchHandler>(
    inputs: Batch<H::Item>,
    state: Arc<H::State>,
    work: fn(Batch<H::Item>, Arc<H::State>) -> Outcomes,
) -> Reply<Vec<Outcome>> {
    Reply::Blocking(Box::new(move || work(inputs, state)))
}

/// `max_batch`, checked when the handler is compiled.
///
/// # Panics
/// It is 0.
pub const fn jobs(max_batch: usize) -> usize {
    assert!(
        max_batch > 0,
        "`max_batch` is 0, and a batch holds one job at least"
    );
    max_batch
}

/// A handler of batches, called with one job alone.
pub fn alone<H: BatchHandler>(call: Call<H::State>) -> Reply {
    let only = |outcomes: Outcomes| outcomes?.pop().expect("there is one for each job");
    let inputs = match H::input(&call) {
        Ok(input) => Batch::new([(input, call.context())]),
        Err(failure) => return future(async { Err(failure) }),
    };
    match H::call_batch(inputs, call.state()) {
        Reply::Async(work) => future(work.map(only)),
        Reply::Blocking(work) => Reply::Blocking(Box::new(move || only(work()))),
    }
}

/// A stream, as the handler's signature promises one. This is the one place to complain if it is none, hence the new
/// type, which is sure to be a stream.
pub fn stream<S: Streams>(stream: S) -> impl Stream<Item = S::Item> {
    stream
}

/// What `#[handler(stream)]` takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stream",
    label = "not `futures::Stream`",
    note = "return a stream, or write `#[handler]` without `stream` if this is the handler's one output"
)]
pub trait Streams: Stream {}

#[diagnostic::do_not_recommend]
impl<S: Stream> Streams for S {}

/// An iterator, as the handler's signature promises one; see [`stream`].
pub fn iterator<I: Iterates>(items: I) -> impl Iterator<Item = I::Item> {
    items.into_iter()
}

/// What `#[handler(iterator)]` takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an iterator",
    label = "not `IntoIterator`",
    note = "return an iterator, or write `#[handler]` without `iterator` if this is the handler's one output"
)]
pub trait Iterates: IntoIterator {}

#[diagnostic::do_not_recommend]
impl<I: IntoIterator> Iterates for I {}

/// The type of an output, from which its [tag](PlainShape) is told: a `Result`, or anything else.
///
/// The method for `Result` is inherent and so comes before the trait's. Neither has bounds: if they had, a `Result`
/// that misses them would pass for a plain value, and a failed job for a good one.
pub struct Shape<T>(PhantomData<fn() -> T>);

impl<T> fmt::Debug for Shape<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shape")
    }
}

impl<T, E> Shape<Result<T, E>> {
    /// A `Result`: its `Err` fails the job.
    pub fn tag(self) -> Fallible {
        Fallible
    }
}

/// Any shape but `Result`, for which the inherent method is found first.
pub trait PlainShape: Sized {
    /// A value: it is the output as it stands.
    fn tag(self) -> Plain {
        Plain
    }
}

impl<T> PlainShape for Shape<T> {}

/// The shape of an output.
pub fn shape<T>(_: &T) -> Shape<T> {
    Shape(PhantomData)
}

/// The shape of a stream's items.
pub fn stream_shape<S: Stream>(_: &S) -> Shape<S::Item> {
    Shape(PhantomData)
}

/// The shape of an iterator's items.
pub fn iterator_shape<I: Iterator>(_: &I) -> Shape<I::Item> {
    Shape(PhantomData)
}

/// The output is a value.
#[derive(Debug)]
pub struct Plain;

impl Plain {
    /// All that a batch came to.
    ///
    /// # Errors
    /// None.
    pub fn whole<V>(self, results: V) -> Result<V, HandlerError> {
        Ok(results)
    }

    /// The way to encode it. The bound stands on this method, since its type argument lies in the user's code.
    pub fn encoder<T: Output>(self) -> fn(T) -> Outcome {
        |output| encode(&output)
    }
}

/// The output is a `Result`.
#[derive(Debug)]
pub struct Fallible;

impl Fallible {
    /// All that a batch came to.
    ///
    /// # Errors
    /// All of it failed.
    pub fn whole<R: Whole>(self, results: R) -> Result<R::Results, HandlerError> {
        results.whole()
    }

    /// The way to encode it, or to fail the job.
    pub fn encoder<R: Fails>(self) -> fn(R) -> Outcome {
        R::into_outcome
    }
}

/// What a handler of batches returns, or has in its `Result`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not one result for each job of a batch",
    label = "not a `Vec`",
    note = "a handler that takes a `Batch` returns a `Vec<T>` or `Vec<podwork::Result<T>>` with one entry for each job, in \
            their order; or a `Result` of such a `Vec`, whose `Err` fails them all"
)]
pub trait Results {
    /// One job's.
    type Item;

    /// All of them.
    fn all(self) -> Vec<Self::Item>;
}

impl<T> Results for Vec<T> {
    type Item = T;

    fn all(self) -> Self {
        self
    }
}

/// A `Result` of a batch's results and an error.
pub trait Whole {
    /// The results.
    type Results: Results;

    /// The results, or why they all failed.
    fn whole(self) -> Result<Self::Results, HandlerError>;
}

impl<V: Results, E: Failure> Whole for Result<V, E> {
    type Results = V;

    fn whole(self) -> Result<V, HandlerError> {
        self.map_err(Into::into)
    }
}

/// The shape of a batch's results.
pub fn results_shape<V: Results>(_: &V) -> Shape<V::Item> {
    Shape(PhantomData)
}

/// The outcome of each job of a batch.
///
/// # Errors
/// They are not as many as there are jobs.
pub fn outcomes<V: Results>(results: V, jobs: usize, encode: fn(V::Item) -> Outcome) -> Outcomes {
    let results = results.all();
    if results.len() != jobs {
        let message = format!(
            "the handler returned {} results for {jobs} job(s): it has to return one for each, in their order",
            results.len()
        );
        return Err(HandlerError::new("invalid_output", message));
    }
    Ok(results.into_iter().map(encode).collect())
}

/// A `Result` of an output and an error.
pub trait Fails {
    /// The output's JSON, or the error.
    fn into_outcome(self) -> Outcome;
}

impl<T: Output, E: Failure> Fails for Result<T, E> {
    fn into_outcome(self) -> Outcome {
        encode(&self.map_err(Into::into)?)
    }
}

/// What can be a handler's error.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's error",
    label = "not `std::error::Error`",
    note = "implement `std::error::Error` for it, with `thiserror` for example, or return `podwork::Result` and let `?` \
            convert the errors on the way"
)]
pub trait Failure: Into<HandlerError> {}

#[diagnostic::do_not_recommend]
impl<E: Into<HandlerError>> Failure for E {}

fn encode<T: Serialize>(output: &T) -> Outcome {
    to_raw_value(output).map_err(|error| {
        HandlerError::new(
            "invalid_output",
            format!("the output cannot be written as JSON: {error}"),
        )
    })
}

/// Yields a stream's items as chunks, until it ends, or an item fails.
///
/// # Errors
/// An item failed, or the job was stopped.
pub async fn drive_stream<T, S>(
    stream: impl Stream<Item = T>,
    call: Call<S>,
    encode: fn(T) -> Outcome,
) -> Outcome {
    let mut chunks = call.chunks;
    let mut stream = pin!(stream);
    while let Some(item) = stream.next().await {
        let chunk = encode(item)?;
        chunks.push(chunk).await?;
        // A stream that never waits would keep other tasks from their turn, and itself from being stopped.
        consume_budget().await;
    }
    all_chunks(chunks)
}

/// Yields an iterator's items as chunks, until it ends, an item fails, or the job is to stop. For a blocking thread of
/// the runtime.
///
/// # Errors
/// An item failed, or the job was stopped.
pub fn drive_iterator<T, S>(
    items: impl Iterator<Item = T>,
    call: Call<S>,
    encode: fn(T) -> Outcome,
) -> Outcome {
    let context = call.context();
    let mut chunks = call.chunks;
    let runtime = Handle::current();
    for item in items {
        if context.is_cancelled() {
            return Err(Closed.into());
        }
        let chunk = encode(item)?;
        // Nobody empties the outbox of a stopped job, so waiting for room might never end.
        runtime.block_on(async {
            tokio::select! {
                biased;
                pushed = chunks.push(chunk) => pushed,
                () = context.cancelled() => Err(Closed.into()),
            }
        })?;
    }
    all_chunks(chunks)
}

fn all_chunks(chunks: Chunks) -> Outcome {
    encode::<Vec<Box<RawValue>>>(&chunks.finish())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::{Map, json};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::delivery::outbox::{MAX_CHUNKS, Outbox};
    use crate::handler::Context;

    fn call() -> (Call<()>, Arc<Outbox>, CancellationToken) {
        let outbox = Arc::new(Outbox::default());
        let cancelled = CancellationToken::new();
        let context = Context::new(
            "test".to_owned(),
            Map::new(),
            Arc::clone(&outbox),
            cancelled.clone(),
            tracing::Span::none(),
        );
        let chunks = Chunks::new(Arc::clone(&outbox), "test", false);
        let input = to_raw_value(&json!(null)).unwrap();
        let call = Call::new(context, input, Arc::new(()), chunks);
        (call, outbox, cancelled)
    }

    #[tokio::test]
    async fn an_endless_iterator_ends_when_its_job_is_stopped() {
        // Nobody empties the outbox, so the thread waits for room when the stop comes.
        let (call, _outbox, cancelled) = call();
        let (made, mut seen) = tokio::sync::watch::channel(0);
        let items = (1..).inspect(move |n| made.send(*n).unwrap());
        let thread = tokio::task::spawn_blocking(|| {
            let encode = shape(&0).tag().encoder::<usize>();
            drive_iterator(items, call, encode)
        });
        seen.wait_for(|n| *n > MAX_CHUNKS).await.unwrap();
        cancelled.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), thread).await;
        assert_eq!(ended.unwrap().unwrap().unwrap_err().kind(), "closed");
    }

    #[tokio::test]
    async fn an_endless_stream_ends_when_its_chunks_are_refused() {
        let (call, outbox, _cancelled) = call();
        outbox.close();
        let encode = shape(&0).tag().encoder::<u32>();
        let ended = drive_stream(futures::stream::repeat(1), call, encode).await;
        assert_eq!(ended.unwrap_err().kind(), "closed");
    }

    #[test]
    fn a_result_is_one_whatever_is_in_it() {
        struct NoOutput;

        // Types that miss every bound: the tag goes by the shape alone.
        let _: Fallible = shape(&Ok::<NoOutput, NoOutput>(NoOutput)).tag();
        let _: Fallible =
            stream_shape(&futures::stream::empty::<crate::error::Result<NoOutput>>()).tag();
        let _: Plain = shape(&NoOutput).tag();
        let _: Plain = iterator_shape(&[Some(1)].into_iter()).tag();
    }
}
