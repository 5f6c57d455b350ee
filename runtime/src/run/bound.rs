//! A handler of any type, before and after its state exists: the code that starts a worker and runs jobs is compiled
//! once, not once per handler.

use std::any::Any;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
#[cfg(feature = "schema")]
use podwork_protocol::HandlerSchema;
use podwork_protocol::RawValue;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::delivery::outbox::Chunks;
use crate::error::HandlerError;
use crate::handler::seal::Seal;
use crate::handler::state::StateSource;
use crate::handler::{Call, Context, Handler, HandlerKind, Work};
use crate::jobs::Jobs;
use crate::telemetry::Telemetry;
use crate::threads::guarded;

use super::batches::{BatchOverrides, Batches, ReadyBatch, Release};

type Bind =
    dyn FnOnce(Arc<Jobs>) -> BoxFuture<'static, Result<Box<dyn AnyHandler>, HandlerError>> + Send;

/// A handler of any type, with the source of its state.
pub(crate) struct UnboundHandler {
    /// The name of the function.
    pub(crate) name: &'static str,
    pub(crate) kind: HandlerKind,
    /// The maximum number of jobs in a call, if the handler takes batches.
    pub(crate) max_batch: Option<usize>,
    /// Returns the schema of the input and the output, if there is one.
    #[cfg(feature = "schema")]
    pub(crate) schema: Option<fn() -> HandlerSchema>,
    bind: Box<Bind>,
}

/// A handler of any type, with its state.
pub(crate) trait AnyHandler: Send + Sync {
    /// Begins a call for one job, which may share the call with others. `release` is dropped once the call no longer
    /// holds the job.
    fn begin(
        &self,
        context: Context,
        input: Box<RawValue>,
        chunks: Chunks,
        release: Release,
    ) -> Work;

    /// Returns the state.
    fn state(&self) -> Arc<dyn Any + Send + Sync>;

    /// Returns the loop that calls the handler with each batch that is ready. Returns `None` if the handler takes jobs
    /// one by one.
    fn batch_loop(&self, tasks: BatchTasks) -> Option<BoxFuture<'static, ()>>;
}

/// Everything that the batch loop needs to run batches.
pub(crate) struct BatchTasks {
    pub(crate) tracker: TaskTracker,
    /// The runtime of the handler.
    pub(crate) handlers: Handle,
    pub(crate) telemetry: Telemetry,
    /// Cancelled when the worker drains: batches no longer wait for more jobs.
    pub(crate) drain: CancellationToken,
    /// Cancelled when no job may run any longer.
    pub(crate) worker_ended: CancellationToken,
}

/// A handler with its state.
pub(crate) struct BoundHandler<H: Handler> {
    pub(crate) state: Arc<H::State>,
    /// The queue in which jobs wait for others, if the handler takes batches.
    pub(crate) batches: Option<Arc<Batches<H::State, H::Item>>>,
}

impl UnboundHandler {
    pub(crate) fn new<H: Handler>(
        source: impl StateSource<H::State>,
        overrides: BatchOverrides,
    ) -> Self {
        let batching = H::BATCH.map(|batching| overrides.applied_to(batching));
        let max_batch = batching.as_ref().map(|batching| batching.max_batch);
        let bind = move |jobs| {
            async move {
                if let Some(batching) = &batching
                    && batching.weighing.is_none()
                    && overrides.weight.is_some()
                {
                    warn!(
                        "Ignoring `max_weight`: the handler has no weight. Add `#[handler(weight = …)]`."
                    );
                }
                let state = Arc::new(source.make(Seal).await?);
                let batches =
                    batching.map(|batching| Batches::new(batching, jobs, Arc::clone(&state)));
                Ok(Box::new(BoundHandler::<H> { state, batches }) as Box<dyn AnyHandler>)
            }
            .boxed()
        };
        Self {
            name: H::NAME,
            kind: H::KIND,
            max_batch,
            #[cfg(feature = "schema")]
            schema: H::SCHEMA,
            bind: Box::new(bind),
        }
    }

    /// Creates the state. Batches get their permits from `jobs`.
    pub(crate) fn bind(
        self,
        jobs: Arc<Jobs>,
    ) -> BoxFuture<'static, Result<Box<dyn AnyHandler>, HandlerError>> {
        (self.bind)(jobs)
    }
}

impl<H: Handler> AnyHandler for BoundHandler<H> {
    fn begin(
        &self,
        context: Context,
        input: Box<RawValue>,
        chunks: Chunks,
        release: Release,
    ) -> Work {
        let call = Call::new(context, input, Arc::clone(&self.state), chunks);
        match &self.batches {
            Some(batches) => Arc::clone(batches).join(call, release),
            None => H::call(call),
        }
    }

    fn state(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.state) as _
    }

    fn batch_loop(&self, tasks: BatchTasks) -> Option<BoxFuture<'static, ()>> {
        let batches = Arc::clone(self.batches.as_ref()?);
        let batch_loop = async move {
            let start = |batch: ReadyBatch<_>| {
                let telemetry = tasks.telemetry.clone();
                let run = batch.run(Arc::clone(&batches), telemetry, tasks.worker_ended.clone());
                let run = async {
                    if let Err(why) = guarded(run).await {
                        error!(error = %why, "A batch panicked; its jobs fail.");
                    }
                };
                tasks.tracker.spawn_on(run, &tasks.handlers);
            };
            Arc::clone(&batches).release(&tasks.drain, start).await;
        };
        Some(batch_loop.boxed())
    }
}
