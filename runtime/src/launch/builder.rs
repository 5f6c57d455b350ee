//! The worker's builder.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::time::Duration;

#[cfg(all(feature = "cache", unix))]
use podwork_protocol::env;
use tokio::runtime::Handle;

use crate::config::Config;
use crate::error::Error;
use crate::handler::state::{Given, NoState, Setup};
use crate::handler::{BatchHandler, Handler};
use crate::health::fitness::FitnessCheck;
use crate::health::{Check, HealthCheck, MachineCheck};
use crate::renamed::renamed;
use crate::run::batches::BatchOverrides;
use crate::run::job::JobSettings;
use crate::take::{Asked, Fixed};
use crate::telemetry::TelemetrySettings;
use crate::worker::{Launch, Shutdown, WorkerSettings};

/// How long one post is tried: longer than a platform's redeploy takes.
const DEFAULT_DELIVERY_DEADLINE: Duration = Duration::from_mins(15);
/// How long a health check may go on failing.
const DEFAULT_HEALTH_LIMIT: Duration = Duration::from_mins(1);
/// How long running jobs may go on once the worker was told to end: as long as the platform lets a job run by default.
const DEFAULT_GRACE: Duration = Duration::from_mins(10);

/// A worker, ready to be told how to work, and then to run.
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
    /// A worker that serves jobs with the handler `H`, one at a time.
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
    /// Gives the handler its state.
    pub fn state(self, state: H::State) -> Worker<H, Given<H::State>> {
        self.with_source(Given::ready(state))
    }

    /// Has `setup` make the handler's state, once, before the first job is taken. It may be async, and it may fail:
    /// then the worker logs why, reports itself unhealthy and exits with 1. A function that is not async runs on a
    /// thread for blocking work.
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
    /// How many jobs run at once; 1 unless it is set. 0 counts as 1. Of a handler that takes a
    /// [`Batch`](crate::Batch): how many batches, beside one that forms.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.settings.concurrency = Some(Box::new(Fixed(jobs)));
        self
    }

    /// Asks `limit` before each take how many jobs may run at once, telling it the present number. It grows at once
    /// and shrinks as jobs end. A callback that panics or says 0 is warned about, and the present number stays.
    ///
    /// It is asked on the thread that takes and delivers, so it should return at once.
    pub fn concurrency_with(mut self, limit: impl FnMut(usize) -> usize + Send + 'static) -> Self {
        self.settings.concurrency = Some(Box::new(Asked(limit)));
        self
    }

    /// Most jobs of one [`Batch`](crate::Batch), in place of what the handler's attribute says. 0 counts as 1.
    pub fn max_batch(mut self, jobs: usize) -> Self
    where
        H: BatchHandler,
    {
        self.settings.batch.jobs = Some(jobs);
        self
    }

    /// How long a job waits for others to fill its [`Batch`](crate::Batch) while the handler is free, in place of what
    /// the handler's attribute says. It is kept to the millisecond.
    pub fn max_wait(mut self, wait: Duration) -> Self
    where
        H: BatchHandler,
    {
        self.settings.batch.wait = Some(wait);
        self
    }

    /// Most that the jobs of one [`Batch`](crate::Batch) weigh together, in place of what the handler's attribute says. It
    /// needs a handler that says what a job weighs: `#[handler(weight = …, max_weight = …)]`.
    pub fn max_weight(mut self, weight: usize) -> Self
    where
        H: BatchHandler,
    {
        self.settings.batch.weight = Some(weight);
        self
    }

    /// Whether the final output of a streaming handler repeats all its chunks as a list, so that `/status` and
    /// `/runsync` show them; off unless it is set. The list is held in memory until the job ends.
    pub fn aggregate_stream(mut self, aggregate: bool) -> Self {
        self.settings.job.aggregate = aggregate;
        self
    }

    /// Whether an output that is over the platform's limit (10 MB, or 20 MB by `/runsync`) is uploaded to the
    /// [bucket](crate::files::Upload), as `<job's id>/output.json`; off unless it is set. Clients then see
    /// `{"output_url": "https://…", "bytes": 12345678}` in its place, and find the output there for 7 days.
    ///
    /// If that fails, or there is no bucket, the job fails as it does without this. Chunks have a limit of their own.
    #[cfg(feature = "upload")]
    pub fn upload_large_results(mut self, upload: bool) -> Self {
        self.settings.job.upload_large_results = upload;
        self
    }

    /// Whether the worker is replaced after every job, as if each had called
    /// [`refresh_worker`](crate::Context::refresh_worker).
    pub fn refresh_worker(mut self, refresh: bool) -> Self {
        self.settings.job.refresh = refresh;
        self
    }

    /// How long running jobs may go on once the worker was told to end; 10 minutes unless it is set. What has not
    /// ended by then fails with an error that says so, and the worker exits with 1.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// How long a job may run; as long as the platform lets it, unless this is set. One that takes longer is ended as
    /// if it had been cancelled, and fails with an error that says so.
    pub fn job_timeout(mut self, timeout: Duration) -> Self {
        self.settings.job.timeout = Some(timeout);
        self
    }

    /// How long each post is tried while the platform cannot be reached, or is in trouble; 15 minutes unless it is
    /// set, which is longer than a platform's redeploy takes.
    pub fn delivery_deadline(mut self, deadline: Duration) -> Self {
        self.settings.delivery_deadline = deadline;
        self
    }

    /// Has the machine checked before the first job is taken: by a function without parameters, async or not, that
    /// fails with an error or a panic. Its name tells it in the log, and to the platform.
    ///
    /// Checks run on the platform only, before the set-up, one after the other: the built-in ones, the functions under
    /// [`#[fitness_check]`](macro@crate::fitness_check), then these in the order in which they are given. When one
    /// fails, the worker logs why, reports itself unhealthy and exits with 1.
    pub fn fitness_check<M>(mut self, name: &str, check: impl MachineCheck<M>) -> Self {
        let check = FitnessCheck::new(name.to_owned(), check);
        self.settings.fitness.get_or_insert_default().push(check);
        self
    }

    /// Asks `check` before each take whether the worker is still able to work: a function of the worker's state, async
    /// or not, which may block. While it fails, or panics, no job is taken and the heartbeat reports the worker
    /// unhealthy; once that has gone on for [`health_limit`](Self::health_limit), or the check has not answered for as
    /// long, the jobs at hand are ended as at a shutdown, and the worker exits with 1.
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

    /// How long the health check may go on failing, or not answering, before the worker ends; 1 minute unless it is
    /// set.
    pub fn health_limit(mut self, limit: Duration) -> Self {
        self.settings.health_limit = limit;
        self
    }

    /// Ends the worker once this many jobs in a row panicked or ran out of memory, its own or the GPU's: then it is
    /// likely the worker that is broken, and not the jobs. It takes no more, reports itself unhealthy, ends those at
    /// hand as at a shutdown, and exits with 1. Off unless it is set; 0 counts as 1. A
    /// [`Batch`](crate::Batch) that fails as a whole counts as one.
    pub fn max_consecutive_failures(mut self, jobs: usize) -> Self {
        self.settings.max_failures = Some(jobs.max(1));
        self
    }

    /// Serves metrics on this port of all IPv4 addresses, for Prometheus, at `/metrics`, as the `OpenMetrics` text;
    /// `PODWORK_METRICS_PORT` has the last word. The worker listens there before it does anything else, and does not
    /// start if it cannot. The guide's chapter on observability lists them.
    #[cfg(feature = "metrics")]
    pub fn metrics(mut self, port: u16) -> Self {
        self.settings.telemetry.metrics.port(port);
        self
    }

    /// Serves metrics as [`metrics`](Self::metrics) does, where `listener` listens: on one address alone, or on any port
    /// that is free.
    #[cfg(feature = "metrics")]
    pub fn metrics_on(mut self, listener: std::net::TcpListener) -> Self {
        self.settings.telemetry.metrics.on(listener);
        self
    }

    /// Adds metrics of your own to those that are served. They are read on the thread that takes and delivers, so what
    /// makes them up should return at once.
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

    /// Has directories kept warm on a network volume: they are hydrated before the set-up, after the fitness checks, and
    /// synced after the set-up, after jobs (with an [interval](crate::cache::VolumeCache::interval) between), and once
    /// more when the worker ends, once its jobs have, in what is left of
    /// [`shutdown_grace`](Self::shutdown_grace). One sync runs at a time, beside the jobs. Nothing of it fails the worker.
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

    /// Whether error results carry the host's name and the chain of causes; off unless it is set, since clients see
    /// them. The log always has them.
    pub fn expose_error_details(mut self, expose: bool) -> Self {
        self.settings.error_details = expose;
        self
    }

    /// Sets variables as if they stood in the environment; they win over it. For tests, which should not write to
    /// their process's own.
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

    /// Has no machine checked: this is not one of the platform's.
    #[cfg(feature = "local")]
    pub(crate) fn at_home(mut self) -> Self {
        self.settings.fitness = None;
        self
    }

    /// What the environment says; the part of it that jobs go by is put into the settings.
    pub(super) fn configure(&mut self) -> Result<Config, Error> {
        #[cfg(feature = "download")]
        {
            let limits = crate::config::DownloadLimits::read(|name| self.lookup(name))?;
            self.settings.job.download_limits = limits;
        }
        #[cfg(feature = "upload")]
        {
            let uploads = crate::config::UploadSettings::read(|name| self.lookup(name))?;
            self.settings.job.uploads = uploads.into();
        }
        let mut telemetry = std::mem::take(&mut self.settings.telemetry);
        telemetry.read(|name| self.lookup(name))?;
        self.settings.telemetry = telemetry;
        #[cfg(all(feature = "cache", unix))]
        if let Some(cache) = self.settings.cache.take() {
            let name = crate::config::given(|name| self.lookup(name), env::ENDPOINT_ID);
            self.settings.cache = Some(cache.or_name(name));
        }
        Config::read(|name| self.lookup(name), H::KIND.streams())
    }

    pub(super) fn launch(self, handlers: Handle, shutdown: Shutdown) -> Launch<S> {
        Launch {
            settings: self.settings,
            source: self.source,
            handlers,
            shutdown,
        }
    }

    pub(super) fn lookup(&self, name: &str) -> Option<String> {
        self.env
            .get(name)
            .cloned()
            .or_else(|| std::env::var(name).ok())
    }
}
