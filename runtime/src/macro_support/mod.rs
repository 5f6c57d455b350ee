//! Support for the code that `#[handler]` and `#[fitness_check]` generate. Not part of the public API: it may change with
//! any release.

// Outputs of handlers.
mod output;
// Streams and iterators of chunks.
mod chunks;
// One output or a stream of chunks, chosen for each job.
mod reply;
// Schemas of inputs and outputs.
#[cfg(feature = "schema")]
pub mod schema;

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

pub use inventory;

#[cfg(feature = "validate")]
pub use crate::handler::validate::CheckedInput;
pub use crate::handler::{BatchHandler, Batching, Call, Outcome, Outcomes, Weighing, Work};
pub use crate::health::fitness::Registered;
pub use chunks::{Iterates, Streams, drive_iterator, drive_stream, iterator, stream};
pub use output::{
    BatchResults, FallibleBatch, FallibleOutput, FallibleTag, IntoHandlerError, OutputShape,
    PlainShape, PlainTag, iterator_shape, outcomes, results_shape, shape, stream_shape,
};
pub use reply::{Replies, drive_reply, drive_reply_on_thread, reply, reply_shape};

use crate::error::HandlerError;
use crate::handler::Batch;
use crate::handler::Handler;
use crate::handler::seal::Seal;
use crate::handler::state::{Given, StateSource as _};
use crate::health::fitness::MachineCheck;

/// Runs a function with `#[fitness_check]`. A panic counts as its error.
pub fn fitness<M>(check: impl MachineCheck<M>) -> BoxFuture<'static, Result<(), HandlerError>> {
    Given::setup(check).make(Seal)
}

/// Returns the work of an async handler.
pub fn future<T>(work: impl Future<Output = Result<T, HandlerError>> + Send + 'static) -> Work<T> {
    Work::Async(Box::pin(work))
}

/// Returns the work of a blocking handler. Everything that it needs is in the call, so its local values stay on its thread
/// and need not be `Send`.
pub fn blocking<H: Handler>(call: Call<H::State>, work: fn(Call<H::State>) -> Outcome) -> Work {
    Work::Blocking(Box::new(move || work(call)))
}

/// Returns the work of a blocking handler of batches.
pub fn blocking_batch<H: BatchHandler>(
    inputs: Batch<H::Item>,
    state: Arc<H::State>,
    work: fn(Batch<H::Item>, Arc<H::State>) -> Outcomes,
) -> Work<Vec<Outcome>> {
    Work::Blocking(Box::new(move || work(inputs, state)))
}

/// Checks `max_batch` at compile time.
///
/// # Panics
/// Panics if it is 0.
pub const fn jobs(max_batch: usize) -> usize {
    assert!(
        max_batch > 0,
        "`max_batch` is 0: a batch has at least one job"
    );
    max_batch
}

/// Calls a handler of batches with a single job.
pub fn alone<H: BatchHandler>(call: Call<H::State>) -> Work {
    let only = |outcomes: Outcomes| outcomes?.pop().expect("the number of outcomes was checked");
    let inputs = match H::input(&call) {
        Ok(input) => Batch::new([(input, call.context())]),
        Err(failure) => return future(async { Err(failure) }),
    };
    match H::call_batch(inputs, call.state()) {
        Work::Async(work) => future(work.map(only)),
        Work::Blocking(work) => Work::Blocking(Box::new(move || only(work()))),
    }
}
