//! The interface between the runtime and a handler. `#[handler]` generates the implementations.

mod batch;
mod context;
pub(crate) mod execution;
mod folder;
pub(crate) mod json;
pub(crate) mod reply;
#[cfg(feature = "schema")]
pub(crate) mod schema;
pub(crate) mod seal;
pub mod state;
#[cfg(feature = "validate")]
pub(crate) mod validate;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use podwork_protocol::RawValue;
use serde::de::DeserializeOwned;

use crate::delivery::outbox::Chunks;
use crate::error::handler_error::{HandlerError, short, short_words};

pub use batch::Batch;
pub use context::Context;
pub use reply::Reply;
#[cfg(feature = "schema")]
pub use schema::{DescribedHandler, schema};

/// The maximum length of the path and of the cause in an error about an input, in bytes: both may contain text that the
/// client sent.
const LONGEST_PART: usize = 400;
/// The maximum length of a text without spaces in them, in bytes. A longer one is likely the content of a file.
const LONGEST_WORD: usize = 160;

/// The kind of output that a handler produces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandlerKind {
    /// A single output.
    Once,
    /// A stream of chunks.
    Stream {
        /// Allows the runtime to post chunks that wait together as one.
        join: bool,
    },
    /// A [`Reply`]: each job has a single output, or a stream of chunks.
    PerJob {
        /// Allows the runtime to post chunks that wait together as one.
        join: bool,
    },
}

impl HandlerKind {
    /// Returns whether the handler may yield chunks.
    pub const fn streams(self) -> bool {
        matches!(self, Self::Stream { .. } | Self::PerJob { .. })
    }

    /// Returns whether all jobs are streams.
    pub(crate) const fn always_streams(self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    /// Returns whether chunks that wait together may be posted as one.
    pub(crate) const fn joins(self) -> bool {
        matches!(
            self,
            Self::Stream { join: true } | Self::PerJob { join: true }
        )
    }
}

/// A function that runs jobs. [`#[handler]`](macro@crate::handler) implements this trait; do not implement it by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "add `#[podwork::handler]` to the function, and write its name between angle brackets: `run::<greet>()`"
)]
pub trait Handler: Send + 'static {
    /// The worker's state, which all jobs share; `()` if the handler takes no state.
    type State: Send + Sync + 'static;

    /// The name of the function.
    const NAME: &'static str;

    /// The kind of output.
    const KIND: HandlerKind;

    /// One entry of a batch; `()` if the handler takes jobs one by one.
    #[doc(hidden)]
    type Item: Send + 'static;

    /// The settings and functions for batches, if the handler takes batches.
    #[doc(hidden)]
    const BATCH: Option<Batching<Self::State, Self::Item>> = None;

    /// The schema of the input and the output, if there is one.
    #[cfg(feature = "schema")]
    #[doc(hidden)]
    const SCHEMA: Option<fn() -> podwork_protocol::HandlerSchema> = None;

    /// Begins a call for one job.
    #[doc(hidden)]
    fn call(call: Call<Self::State>) -> Work;
}

/// A [`Handler`] that takes several jobs in one call, as a [`Batch`]. [`#[handler]`](macro@crate::handler) implements
/// this trait; do not implement it by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take batches",
    label = "not a handler of batches",
    note = "let it take a `podwork::Batch<T>` and return a `Vec`, or remove `max_batch` and `max_wait`"
)]
pub trait BatchHandler: Handler {
    /// The maximum number of jobs in one call. Default: 16. [`Worker::max_batch`](crate::Worker::max_batch) overrides
    /// it.
    const MAX_BATCH: usize = 16;

    /// The time that a job waits for others. Default: 5 ms. [`Worker::max_wait`](crate::Worker::max_wait) overrides it.
    const MAX_WAIT: Duration = Duration::from_millis(5);

    /// The weights of jobs, if the weight of a batch is limited.
    #[doc(hidden)]
    const WEIGHING: Option<Weighing<Self::Item>> = None;

    /// Returns the input of one job.
    ///
    /// # Errors
    /// Returns an error if the input is invalid.
    #[doc(hidden)]
    fn input(call: &Call<Self::State>) -> Result<Self::Item, HandlerError>;

    /// Begins a call for several jobs.
    #[doc(hidden)]
    fn call_batch(inputs: Batch<Self::Item>, state: Arc<Self::State>) -> Work<Vec<Outcome>>;
}

/// The settings and functions of a handler of batches.
#[doc(hidden)]
#[derive(Debug)]
pub struct Batching<S, T> {
    pub(crate) max_batch: usize,
    pub(crate) max_wait: Duration,
    pub(crate) weighing: Option<Weighing<T>>,
    pub(crate) input: fn(&Call<S>) -> Result<T, HandlerError>,
    /// Returns an outcome for each job, or the error that fails all of them.
    pub(crate) call: fn(Batch<T>, Arc<S>) -> Work<Vec<Outcome>>,
}

impl<S, T> Batching<S, T> {
    /// Returns the settings and functions of the handler `H`.
    pub const fn of<H: BatchHandler<State = S, Item = T>>() -> Self {
        Self {
            max_batch: H::MAX_BATCH,
            max_wait: H::MAX_WAIT,
            weighing: H::WEIGHING,
            input: H::input,
            call: H::call_batch,
        }
    }
}

/// The limit on the total weight of the jobs in one call.
#[doc(hidden)]
#[derive(Debug)]
pub struct Weighing<T> {
    pub(crate) weight: fn(&T) -> usize,
    pub(crate) max: usize,
}

impl<T> Weighing<T> {
    /// Combines `weight` and `max_weight` of the attribute.
    pub const fn new(weight: fn(&T) -> usize, max: usize) -> Self {
        Self { weight, max }
    }
}

/// The output as JSON, or the error that fails the job.
#[doc(hidden)]
pub type Outcome = Result<Box<RawValue>, HandlerError>;

/// The outcome of each job of a batch, or the error that fails all of them.
#[doc(hidden)]
pub type Outcomes = Result<Vec<Outcome>, HandlerError>;

/// The work of a call. It returns one outcome, or the outcomes of a batch.
#[doc(hidden)]
pub enum Work<T = Box<RawValue>> {
    /// Work on the async runtime. Dropping it cancels it.
    Async(BoxFuture<'static, Result<T, HandlerError>>),
    /// Work on a blocking thread. It can end early only by checking [`Context::is_cancelled`].
    Blocking(Box<dyn FnOnce() -> Result<T, HandlerError> + Send>),
}

impl<T> fmt::Debug for Work<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Async(_) => "Async",
            Self::Blocking(_) => "Blocking",
        })
    }
}

/// One call: the job, the worker's state, and the sender of chunks.
#[doc(hidden)]
#[derive(Debug)]
pub struct Call<S> {
    context: Context,
    state: Arc<S>,
    /// The input, until it is parsed: a large input should not stay in memory beside the parsed value.
    input: Mutex<Option<Box<RawValue>>>,
    pub(crate) chunks: Chunks,
}

impl<S> Call<S> {
    pub(crate) fn new(
        context: Context,
        input: Box<RawValue>,
        state: Arc<S>,
        chunks: Chunks,
    ) -> Self {
        Self {
            context,
            state,
            input: Mutex::new(Some(input)),
            chunks,
        }
    }

    /// Returns the job's input as `T`. The input can be taken only once.
    ///
    /// # Errors
    /// Returns an error if the input is invalid. It names the path, e.g. ``invalid input at `size.width`: …``.
    pub fn input<T: Input>(&self) -> Result<T, HandlerError> {
        let invalid = |message| HandlerError::new("invalid_input", message);
        let input = self
            .input
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let input = input.ok_or_else(|| invalid("the input was already taken".to_owned()))?;
        let mut text = serde_json::Deserializer::from_str(input.get());
        serde_path_to_error::deserialize(&mut text).map_err(|error| {
            let path = short(
                short_words(&error.path().to_string(), LONGEST_WORD),
                LONGEST_PART,
            );
            let cause = short_words(&error.into_inner().to_string(), LONGEST_WORD);
            let cause = short(cause, LONGEST_PART);
            invalid(match path.as_str() {
                "." => format!("invalid input: {cause}"),
                path => format!("invalid input at `{path}`: {cause}"),
            })
        })
    }

    /// Returns the worker's state.
    pub fn state(&self) -> Arc<S> {
        Arc::clone(&self.state)
    }

    /// Returns the job's context.
    pub fn context(&self) -> Context {
        self.context.clone()
    }
}

/// A type that can be a handler's input: any type that deserializes from JSON without borrowing from it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's input",
    label = "not `serde::Deserialize`",
    note = "derive `serde::Deserialize` for it, or take a `serde_json::Value` instead",
    note = "if it is the worker's state, take it by reference: `&{Self}`; if it contains the job's context, take a \
            `podwork::Context` as a parameter of its own"
)]
pub trait Input: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Input for T {}

/// A type that can be a handler's output: any type that serializes to JSON.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's output",
    label = "not `serde::Serialize`",
    note = "derive `serde::Serialize` for it, or return `serde_json::Value`",
    note = "if it is a stream or an iterator of chunks, write `#[handler(stream)]` or `#[handler(iterator)]`",
    note = "if it contains a `podwork::Reply`: write `Reply<..>`, not an alias, as the whole return type or as the `Ok` of \
            a `Result`; the entries of a batch cannot be replies"
)]
pub trait Output: serde::Serialize {}

#[diagnostic::do_not_recommend]
impl<T: serde::Serialize + ?Sized> Output for T {}
