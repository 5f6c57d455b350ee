//! The worker's builder.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::time::Duration;

use crate::handler::state::{Given, NoState, Setup, StateSource};
use crate::handler::{BatchHandler, Handler};
use crate::health::fitness::FitnessCheck;
use crate::health::{Check, HealthCheck, MachineCheck};
use crate::renamed::renamed;
use crate::run::batches::BatchOverrides;
use crate::run::bound::UnboundHandler;
use crate::run::job::JobSettings;
use crate::take::{Asked, Fixed};
use crate::telemetry::TelemetrySettings;
use crate::worker::WorkerSettings;

use super::any_worker::AnyWorker;

/// The default time limit for one post, retries included: longer than a redeploy of the platform takes.
const DEFAULT_DELIVERY_DEADLINE: Duration = Duration::from_mins(15);
/// The default time that a health check may keep failing.
const DEFAULT_HEALTH_LIMIT: Duration = Duration::from_mins(1);
/// The default grace period at shutdown: as long as the platform lets a job run by default.
const DEFAULT_GRACE: Duration = Duration::from_mins(10);

/// A worker: configure it with the methods below, then start it with [`run`](Self::run) or [`serve`](Self::serve).
///
/// ```no_run
/// use podwork::{Context, Result, Worker, handler};
///
/// struct Model;
///
/// impl Model {
///     fn load() -> Result<Self> {
///         Ok(Self)
///     }
/// }
///
/// #[handler]
/// async fn caption(prompt: String, model: &Model, cx: Context) -> Result<String> {
///     cx.progress("thinking");
///     Ok(prompt)
/// }
///
/// fn main() -> podwork::ExitCode {
///     Worker::new::<caption>().setup(Model::load).concurrency(4).run()
/// }
/// ```
#[must_use = "a worker does nothing until it is run"]
pub struct Worker<H = (), S = NoState> {
    source: S,
    settings: WorkerSettings,
    env: HashMap<String, String>,
    handler: PhantomData<fn() -> H>,
}

impl<H, S> std::fmt::Debug for Worker<H, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Worker {
    /// Creates a worker that runs jobs with the handler `H`, one at a time.
    pub fn new<H: Handler>() -> Worker<H> {
        Worker {
            source: NoState,
            settings: WorkerSettings {
                concurrency: None,
                job: JobSettings::default(),
                batch: BatchOverrides::default(),
                error_details: false,
                grace: DEFAULT_GRACE,
                delivery_deadline: DEFAULT_DELIVERY_DEADLINE,
                fitness: Some(Vec::new()),
                health: None,
                health_limit: DEFAULT_HEALTH_LIMIT,
                max_failures: None,
                telemetry: TelemetrySettings::default(),
                #[cfg(all(feature = "cache", unix))]
                cache: None,
            },
            env: HashMap::new(),
            handler: PhantomData,
        }
    }
}

impl<H: Handler> Worker<H> {
    /// Sets the handler's state.
    pub fn state(self, state: H::State) -> Worker<H, Given<H::State>> {
        self.with_source(Given::ready(state))
    }

    /// Sets the function that creates the handler's state. The worker calls it once, before it fetches the first job.
    /// If it fails, the worker logs the error, reports itself unhealthy and exits with 1. The function may be async;
    /// one that is not runs on a thread for blocking work.
    pub fn setup<M>(self, setup: impl Setup<H::State, M>) -> Worker<H, Given<H::State>> {
        self.with_source(Given::setup(setup))
    }

    fn with_source<S>(self, source: S) -> Worker<H, S> {
        Worker {
            source,
            settings: self.settings,
            env: self.env,
            handler: PhantomData,
        }
    }
}

impl<H: Handler, S> Worker<H, S> {
    /// Sets the maximum number of jobs that run at once. Default: 1. 0 counts as 1. For a handler that takes a
    /// [`Batch`](crate::Batch), this is the number of batches that run at once while one more is being filled.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.settings.concurrency = Some(Box::new(Fixed(jobs)));
        self
    }

    /// Sets a callback that returns the concurrency. The worker calls it before each poll, with the current
    /// concurrency. A higher value applies immediately, a lower one as jobs end. If the callback panics or returns 0,
    /// the worker logs a warning and keeps the current value.
    ///
    /// The callback runs on the thread that fetches and delivers jobs, so it should return quickly.
    pub fn concurrency_with(mut self, limit: impl FnMut(usize) -> usize + Send + 'static) -> Self {
        self.settings.concurrency = Some(Box::new(Asked(limit)));
        self
    }

    /// Sets the maximum number of jobs in a [`Batch`](crate::Batch). Overrides `max_batch` of `#[handler]`. 0 counts as
    /// 1.
    pub fn max_batch(mut self, jobs: usize) -> Self
    where
        H: BatchHandler,
    {
        self.settings.batch.jobs = Some(jobs);
        self
    }

    /// Sets how long a job waits for others to fill its [`Batch`](crate::Batch) while the handler is free. Overrides
    /// `max_wait` of `#[handler]`. The resolution is 1 ms.
    pub fn max_wait(mut self, wait: Duration) -> Self
    where
        H: BatchHandler,
    {
        self.settings.batch.wait = Some(wait);
        self
    }

    /// Sets the maximum total weight of the jobs in a [`Batch`](crate::Batch). Overrides `max_weight` of `#[handler]`.
    /// Requires a handler that defines the weight of a job: `#[handler(weight = …, max_weight = …)]`.
    pub fn max_weight(mut self, weight: usize) -> Self
    where
        H: BatchHandler,
    {
        self.settings.batch.weight = Some(weight);
        self
    }

    /// Sets whether the final output of a streaming handler is the list of all its chunks, so that `/status` and
    /// `/runsync` return them. Default: `false`. The worker holds the list in memory until the job ends.
    pub fn aggregate_stream(mut self, aggregate: bool) -> Self {
        self.settings.job.aggregate = aggregate;
        self
    }

    /// Sets whether an output over the platform's limit (10 MB, or 20 MB with `/runsync`) is uploaded to the
    /// [bucket](crate::files::Upload), as `<job id>/output.json`. Default: `false`. Clients then receive
    /// `{"output_url": "https://…", "bytes": 12345678}` instead, and can download the output for 7 days.
    ///
    /// If the upload fails, or no bucket is configured, the job fails as it would without this option. Chunks have
    /// their own limit and are not uploaded.
    #[cfg(feature = "upload")]
    pub fn upload_large_results(mut self, upload: bool) -> Self {
        self.settings.job.upload_large_results = upload;
        self
    }

    /// Sets whether the worker is replaced after every job, as if each job had called
    /// [`refresh_worker`](crate::Context::refresh_worker). Default: `false`.
    pub fn refresh_worker(mut self, refresh: bool) -> Self {
        self.settings.job.refresh = refresh;
        self
    }

    /// Sets the grace period: how long jobs in flight may keep running once the worker shuts down. Default: 10 minutes.
    /// Jobs that have not ended by then fail with a `shutdown` error, and the worker exits with 1.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Sets how long a job may run. Default: no limit but the platform's. A job that takes longer is ended like a
    /// cancelled one, and fails with a `timeout` error.
    pub fn job_timeout(mut self, timeout: Duration) -> Self {
        self.settings.job.timeout = Some(timeout);
        self
    }

    /// Sets how long the worker retries each post while the platform is unreachable or failing. Default: 15 minutes,
    /// which is longer than a redeploy of the platform takes.
    pub fn delivery_deadline(mut self, deadline: Duration) -> Self {
        self.settings.delivery_deadline = deadline;
        self
    }

    /// Adds a check of the machine that runs before the worker fetches the first job: a function without parameters,
    /// async or not, that fails by returning an error or panicking. `name` identifies the check in the log and on the
    /// platform.
    ///
    /// Checks run on the platform only, before the set-up and one after the other: first the built-in checks, then the
    /// functions with [`#[fitness_check]`](macro@crate::fitness_check), then those added by this method, in the order
    /// of the calls. When a check fails, the worker logs the error, reports itself unhealthy and exits with 1.
    pub fn fitness_check<M>(mut self, name: &str, check: impl MachineCheck<M>) -> Self {
        let check = FitnessCheck::new(name.to_owned(), check);
        self.settings.fitness.get_or_insert_default().push(check);
        self
    }

    /// Sets a health check that runs before each poll: a function of the worker's state, async or not, which may block.
    /// While it fails or panics, the worker fetches no jobs, and its heartbeat reports it as unhealthy. Once the check
    /// has failed, or has not returned, for [`health_limit`](Self::health_limit), the worker drains as at a shutdown
    /// and exits with 1.
    ///
    /// ```
    /// # use podwork::{Result, Worker, handler};
    /// # struct Model;
    /// # impl Model { fn answers(&self) -> bool { true } }
    /// # #[handler]
    /// # async fn caption(prompt: String, model: &Model) -> String { prompt }
    /// fn answers(model: &Model) -> Result<()> {
    ///     if model.answers() { Ok(()) } else { Err("the model does not answer".into()) }
    /// }
    ///
    /// let worker = Worker::new::<caption>().state(Model).health(answers);
    /// ```
    pub fn health<M>(mut self, check: impl Check<H::State, M>) -> Self {
        self.settings.health = Some(HealthCheck::new(check));
        self
    }

    /// Sets how long the health check may keep failing, or run without returning, before the worker shuts down.
    /// Default: 1 minute.
    pub fn health_limit(mut self, limit: Duration) -> Self {
        self.settings.health_limit = limit;
        self
    }

    /// Shuts the worker down after `jobs` consecutive jobs panicked, ran out of host or GPU memory, or had no thread to
    /// run on: then the worker is likely broken, not the jobs. The worker fetches no more jobs, reports itself
    /// unhealthy, drains as at a shutdown and exits with 1. Default: off. 0 counts as 1. A [`Batch`](crate::Batch) that
    /// fails as a whole counts as one job.
    pub fn max_consecutive_failures(mut self, jobs: usize) -> Self {
        self.settings.max_failures = Some(jobs.max(1));
        self
    }

    /// Serves metrics for Prometheus on `port` of all IPv4 addresses, at `/metrics`, in the `OpenMetrics` text format,
    /// or in that of Prometheus 0.0.4 if the client prefers it. `PODWORK_METRICS_PORT` overrides the port. The worker
    /// opens the port before it does anything else, and does not start if it cannot. For the list of metrics, see the
    /// guide's chapter on observability.
    #[cfg(feature = "metrics")]
    pub fn metrics(mut self, port: u16) -> Self {
        self.settings.telemetry.metrics.port(port);
        self
    }

    /// Serves metrics like [`metrics`](Self::metrics), but on `listener`: use it to listen on a single address, or on
    /// any free port.
    #[cfg(feature = "metrics")]
    pub fn metrics_on(mut self, listener: std::net::TcpListener) -> Self {
        self.settings.telemetry.metrics.on(listener);
        self
    }

    /// Registers your own metrics, which are served together with the worker's. The worker collects them on the thread
    /// that fetches and delivers jobs, so custom collectors should return quickly.
    ///
    /// ```
    /// use podwork::metrics::counter::Counter;
    /// use podwork::{Worker, handler};
    ///
    /// #[handler]
    /// async fn count(text: String, words: &Counter) -> usize {
    ///     let found = text.split_whitespace().count();
    ///     words.inc_by(found as u64);
    ///     found
    /// }
    ///
    /// let words = Counter::default();
    /// let worker = Worker::new::<count>()
    ///     .state(words.clone())
    ///     .metrics(9090)
    ///     .register_metrics(|registry| registry.register("words", "Words counted", words));
    /// # drop(worker);
    /// ```
    #[cfg(feature = "metrics")]
    pub fn register_metrics(
        mut self,
        register: impl FnOnce(&mut prometheus_client::registry::Registry),
    ) -> Self {
        register(self.settings.telemetry.metrics.registry());
        self
    }

    /// Keeps local directories warm on a network volume. The worker hydrates them after the fitness checks and before
    /// the set-up. It syncs them after the set-up, after jobs (with an [interval](crate::cache::VolumeCache::interval)
    /// between two syncs), and at shutdown, when all jobs have ended, within the rest of
    /// [`shutdown_grace`](Self::shutdown_grace). One sync runs at a time, concurrently with jobs. Errors of the cache
    /// never fail the worker.
    ///
    /// ```
    /// # use podwork::{Worker, handler};
    /// # #[handler]
    /// # async fn caption(prompt: String) -> String { prompt }
    /// use podwork::cache::VolumeCache;
    ///
    /// let worker = Worker::new::<caption>().cache(VolumeCache::new(["/root/.cache/torch"]));
    /// ```
    #[cfg(all(feature = "cache", unix))]
    pub fn cache(mut self, cache: crate::cache::VolumeCache) -> Self {
        self.settings.cache = Some(cache);
        self
    }

    /// Sets whether error results contain the host name and the chain of causes. Default: `false`, because clients see
    /// them. The log always contains them.
    pub fn expose_error_details(mut self, expose: bool) -> Self {
        self.settings.error_details = expose;
        self
    }

    /// Sets environment variables for this worker only; they override those of the process. Meant for tests, which
    /// should not modify the environment of their process.
    pub fn env<K: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables = variables.into_iter();
        self.env
            .extend(variables.map(|(name, value)| (name.into(), value.into())));
        self
    }

    renamed! {
        timeout => job_timeout,
        breaker => max_consecutive_failures,
        own_metrics => register_metrics,
    }

    /// Disables all fitness checks, because this machine is not one of the platform's.
    #[cfg(feature = "local")]
    pub(crate) fn at_home(mut self) -> Self {
        self.settings.fitness = None;
        self
    }

    /// Returns the same worker without the types of its handler and its state.
    pub(super) fn into_any(self) -> AnyWorker
    where
        S: StateSource<H::State>,
    {
        AnyWorker {
            handler: UnboundHandler::new::<H>(self.source, self.settings.batch),
            settings: self.settings,
            env: self.env,
        }
    }
}
