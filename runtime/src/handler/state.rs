//! The state of a worker, and the functions that create it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};

use crate::error::HandlerError;
use crate::threads;

use super::seal::Seal;

/// A source of a worker's state of type `S`: `Worker::state` and `Worker::setup` store it in the builder. Sealed.
#[diagnostic::on_unimplemented(
    message = "the handler takes `&{S}`, but the worker has no state",
    label = "missing state",
    note = "add `.setup(..)` with a function that returns a `{S}`, or `.state(..)` with an existing one",
    note = "if it is the job's input, take it by value: `{S}`"
)]
pub trait StateSource<S>: Send + 'static {
    /// Creates the state. Called once.
    #[doc(hidden)]
    fn make(self, _: Seal) -> BoxFuture<'static, Result<S, HandlerError>>;
}

/// The absence of a state, for a handler that takes no state.
#[derive(Debug)]
pub struct NoState;

impl StateSource<()> for NoState {
    fn make(self, _: Seal) -> BoxFuture<'static, Result<(), HandlerError>> {
        futures::future::ready(Ok(())).boxed()
    }
}

/// A state that exists, or a function that creates it.
pub struct Given<S>(Box<dyn FnOnce() -> BoxFuture<'static, Result<S, HandlerError>> + Send>);

impl<S> std::fmt::Debug for Given<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Given")
    }
}

impl<S: Send + 'static> Given<S> {
    pub(crate) fn ready(state: S) -> Self {
        Self(Box::new(|| futures::future::ready(Ok(state)).boxed()))
    }

    pub(crate) fn setup<M, F: Setup<S, M>>(setup: F) -> Self {
        Self(Box::new(|| {
            AssertUnwindSafe(setup.run(Seal))
                .catch_unwind()
                .map(|made| made.unwrap_or_else(|payload| Err(HandlerError::panic(&*payload))))
                .map_err(|failure| failure.in_function(std::any::type_name::<F>()))
                .boxed()
        }))
    }
}

impl<S: Send + 'static> StateSource<S> for Given<S> {
    fn make(self, _: Seal) -> BoxFuture<'static, Result<S, HandlerError>> {
        (self.0)()
    }
}

/// A function that creates a worker's state: `fn() -> S`, `fn() -> Result<S, E>`, or an `async` function of either
/// kind. Sealed; `M` only distinguishes these kinds and is always inferred.
#[diagnostic::on_unimplemented(
    message = "not a set-up function for a state of type `{S}`",
    note = "a set-up function takes no arguments and returns `{S}` or `Result<{S}, E>`, async or not"
)]
pub trait Setup<S, M>: Send + 'static {
    /// Runs the function.
    #[doc(hidden)]
    fn run(self, _: Seal) -> BoxFuture<'static, Result<S, HandlerError>>;
}

/// Marks a [`Setup`] that returns the state.
#[derive(Debug)]
pub struct Plain;
/// Marks a [`Setup`] that returns a `Result`.
#[derive(Debug)]
pub struct Fallible;
/// Marks an asynchronous [`Setup`].
#[derive(Debug)]
pub struct Async<M>(M);

impl<S: Send + 'static, F: FnOnce() -> S + Send + 'static> Setup<S, Plain> for F {
    fn run(self, _: Seal) -> BoxFuture<'static, Result<S, HandlerError>> {
        blocking(|| Ok(self()))
    }
}

impl<S, E, F> Setup<S, Fallible> for F
where
    S: Send + 'static,
    E: Into<HandlerError>,
    F: FnOnce() -> Result<S, E> + Send + 'static,
{
    fn run(self, _: Seal) -> BoxFuture<'static, Result<S, HandlerError>> {
        blocking(|| self().map_err(Into::into))
    }
}

impl<S, Fut, F> Setup<S, Async<Plain>> for F
where
    S: Send + 'static,
    Fut: Future<Output = S> + Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
{
    fn run(self, _: Seal) -> BoxFuture<'static, Result<S, HandlerError>> {
        async { Ok(self().await) }.boxed()
    }
}

impl<S, E, Fut, F> Setup<S, Async<Fallible>> for F
where
    S: Send + 'static,
    E: Into<HandlerError>,
    Fut: Future<Output = Result<S, E>> + Send + 'static,
    F: FnOnce() -> Fut + Send + 'static,
{
    fn run(self, _: Seal) -> BoxFuture<'static, Result<S, HandlerError>> {
        async { self().await.map_err(Into::into) }.boxed()
    }
}

/// Runs a set-up function on a blocking thread: loading a model takes long.
fn blocking<S: Send + 'static>(
    make: impl FnOnce() -> Result<S, HandlerError> + Send + 'static,
) -> BoxFuture<'static, Result<S, HandlerError>> {
    async {
        let guarded = || {
            catch_unwind(AssertUnwindSafe(make))
                .unwrap_or_else(|payload| Err(HandlerError::panic(&*payload)))
        };
        threads::blocking(guarded).await?
    }
    .boxed()
}
