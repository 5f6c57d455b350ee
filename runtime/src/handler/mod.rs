//! What the runtime asks of a handler. `#[handler]` writes the implementations.

mod batch;
mod context;
pub(crate) mod execution;
mod folder;
pub(crate) mod json;
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
use crate::error::handler_error::{HandlerError, short};

pub use batch::Batch;
pub use context::Context;
#[cfg(feature = "schema")]
pub use schema::{DescribedHandler, schema};

/// Longest place in an input, and longest word for what is wrong there, in bytes: both may hold what the client sent.
const LONGEST_PART: usize = 400;

/// How a handler answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandlerKind {
    /// Once, with one output.
    Once,
    /// With a stream of chunks.
    Stream {
        /// Chunks that wait together may be posted as one.
        join: bool,
    },
}

impl HandlerKind {
    /// Returns whether the handler may yield chunks.
    pub const fn streams(self) -> bool {
        matches!(self, Self::Stream { .. })
    }

    /// Returns whether chunks that wait together may be posted as one.
    pub(crate) const fn joins(self) -> bool {
        matches!(self, Self::Stream { join: true })
    }
}

/// A function that serves jobs. Written by [`#[handler]`](macro@crate::handler), not by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "put `#[podwork::handler]` on the function, and name the function here"
)]
pub trait Handler: Send + 'static {
    /// What the worker's set-up makes for it, shared by all its jobs; `()` when the handler asks for none.
    type State: Send + Sync + 'static;

    /// The function's name.
    const NAME: &'static str;

    /// How it answers.
    const KIND: HandlerKind;

    /// One entry of its batches; `()` when it takes its jobs one by one.
    #[doc(hidden)]
    type Item: Send + 'static;

    /// How its jobs are handed over together, if they are.
    #[doc(hidden)]
    const BATCH: Option<Batching<Self::State, Self::Item>> = None;

    /// What it takes and gives, if it tells.
    #[cfg(feature = "schema")]
    #[doc(hidden)]
    const SCHEMA: Option<fn() -> podwork_protocol::HandlerSchema> = None;

    /// Begins one call, for one job.
    #[doc(hidden)]
    fn call(call: Call<Self::State>) -> Reply;
}

/// A [`Handler`] that takes its jobs together, as a [`Batch`]. Written by [`#[handler]`](macro@crate::handler), not by
/// hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` takes its jobs one by one",
    label = "it is not given batches",
    note = "have it take a `podwork::Batch<T>` and return a `Vec`, or leave out `max_batch` and `max_wait`"
)]
pub trait BatchHandler: Handler {
    /// Most jobs of one call, unless [`Worker::max_batch`](crate::Worker::max_batch) says it.
    const MAX_BATCH: usize = 16;

    /// How long a job waits for others, unless [`Worker::max_wait`](crate::Worker::max_wait) says it.
    const MAX_WAIT: Duration = Duration::from_millis(5);

    /// What each job weighs, if jobs are weighed.
    #[doc(hidden)]
    const WEIGHING: Option<Weighing<Self::Item>> = None;

    /// The input of one job.
    ///
    /// # Errors
    /// It does not fit.
    #[doc(hidden)]
    fn input(call: &Call<Self::State>) -> Result<Self::Item, HandlerError>;

    /// Begins one call, for several jobs.
    #[doc(hidden)]
    fn call_batch(inputs: Batch<Self::Item>, state: Arc<Self::State>) -> Reply<Vec<Outcome>>;
}

/// How jobs are handed over together.
#[doc(hidden)]
#[derive(Debug)]
pub struct Batching<S, T> {
    pub(crate) max_batch: usize,
    pub(crate) max_wait: Duration,
    pub(crate) weighing: Option<Weighing<T>>,
    pub(crate) input: fn(&Call<S>) -> Result<T, HandlerError>,
    /// An outcome for each job, or what fails them all.
    pub(crate) call: fn(Batch<T>, Arc<S>) -> Reply<Vec<Outcome>>,
}

impl<S, T> Batching<S, T> {
    /// As this handler says.
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

/// What the jobs of one call may weigh together.
#[doc(hidden)]
#[derive(Debug)]
pub struct Weighing<T> {
    pub(crate) weight: fn(&T) -> usize,
    pub(crate) max: usize,
}

impl<T> Weighing<T> {
    /// `max_weight` by the attribute's `weight`.
    pub const fn new(weight: fn(&T) -> usize, max: usize) -> Self {
        Self { weight, max }
    }
}

/// The output's JSON, or why there is none.
#[doc(hidden)]
pub type Outcome = Result<Box<RawValue>, HandlerError>;

/// That of each job of a batch, or what fails them all.
#[doc(hidden)]
pub type Outcomes = Result<Vec<Outcome>, HandlerError>;

/// How a call is run. It comes to one outcome, or to those of a batch.
#[doc(hidden)]
pub enum Reply<T = Box<RawValue>> {
    /// On the async runtime; stopped by dropping it.
    Async(BoxFuture<'static, Result<T, HandlerError>>),
    /// On a thread for blocking work; stopped when it looks at [`Context::is_cancelled`].
    Blocking(Box<dyn FnOnce() -> Result<T, HandlerError> + Send>),
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Async(_) => "Async",
            Self::Blocking(_) => "Blocking",
        })
    }
}

/// One call: the job, the worker's state, and where chunks go.
#[doc(hidden)]
#[derive(Debug)]
pub struct Call<S> {
    context: Context,
    state: Arc<S>,
    /// Until it is read: a large one must not be held beside what was made of it.
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

    /// The job's input as `T`. It is there once.
    ///
    /// # Errors
    /// It does not fit; the error names the place, e.g. ``invalid input at `size.width`: …``.
    pub fn input<T: Input>(&self) -> Result<T, HandlerError> {
        let invalid = |message| HandlerError::new("invalid_input", message);
        let input = self
            .input
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let input = input.ok_or_else(|| invalid("the input was read already".to_owned()))?;
        let mut text = serde_json::Deserializer::from_str(input.get());
        serde_path_to_error::deserialize(&mut text).map_err(|error| {
            let path = short(error.path().to_string(), LONGEST_PART);
            let cause = short(error.into_inner().to_string(), LONGEST_PART);
            invalid(match path.as_str() {
                "." => format!("invalid input: {cause}"),
                path => format!("invalid input at `{path}`: {cause}"),
            })
        })
    }

    /// The worker's state.
    pub fn state(&self) -> Arc<S> {
        Arc::clone(&self.state)
    }

    /// The job's context.
    pub fn context(&self) -> Context {
        self.context.clone()
    }
}

/// What can be a handler's input: any type that deserialises from JSON without borrowing from it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's input",
    label = "not `serde::Deserialize`",
    note = "derive `serde::Deserialize` for it, or take `serde_json::Value` and read that"
)]
pub trait Input: DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> Input for T {}

/// What can be a handler's output: any type that serialises to JSON.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's output",
    label = "not `serde::Serialize`",
    note = "derive `serde::Serialize` for it, or return `serde_json::Value`"
)]
pub trait Output: serde::Serialize {}

#[diagnostic::do_not_recommend]
impl<T: serde::Serialize + ?Sized> Output for T {}
