//! The worker's builder, and the ways to start it.

use std::collections::HashMap;
use std::future::Future;
use std::marker::PhantomData;
use std::process::ExitCode;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use podwork_protocol::env;
use tokio::runtime::{Builder as Runtime, Handle};

use crate::config::{Config, Realtime};
use crate::error::Error;
use crate::error::handler_error::note_panics;
use crate::handler::state::{Given, NoState, Setup, StateSource};
use crate::handler::{BatchHandler, Handler};
use crate::health::check::{Check, HealthCheck};
use crate::health::fitness::{FitnessCheck, MachineCheck};
use crate::launch::args::Args;
#[cfg(feature = "local")]
use crate::local::{Mode, Serve, TestInput};
use crate::run::batches::Limits;
use crate::run::job::Options;
use crate::take::concurrency::{Asked, Fixed};
use crate::telemetry::Plan;
use crate::telemetry::log;
use crate::worker::{Settings, Shutdown, work};

/// How long one post is tried: longer than a platform's redeploy takes.
const DEFAULT_DELIVERY_DEADLINE: Duration = Duration::from_mins(15);
/// How long a health check may go on failing.
const DEFAULT_HEALTH_LIMIT: Duration = Duration::from_mins(1);
/// Most blocking handlers at once, and other blocking work beside them; a thread is only made when there is work.
const MOST_BLOCKING_THREADS: usize = 4096;
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
    settings: Settings,
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
            settings: Settings {
                concurrency: Box::new(Fixed(1)),
                options: Options::default(),
                batch: Limits::default(),
                error_details: false,
                grace: DEFAULT_GRACE,
                delivery_deadline: DEFAULT_DELIVERY_DEADLINE,
                fitness: Some(Vec::new()),
                health: None,
                health_limit: DEFAULT_HEALTH_LIMIT,
                breaker: None,
                telemetry: Plan::default(),
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
        self.settings.concurrency = Box::new(Fixed(jobs));
        self
    }

    /// Asks `limit` before each take how many jobs may run at once, telling it the present number. It grows at once
    /// and shrinks as jobs end. A callback that panics or says 0 is warned about, and the present number stays.
    ///
    /// It is asked on the thread that takes and delivers, so it should return at once.
    pub fn concurrency_with(mut self, limit: impl FnMut(usize) -> usize + Send + 'static) -> Self {
        self.settings.concurrency = Box::new(Asked(limit));
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
        self.settings.options.aggregate = aggregate;
        self
    }

    /// Whether an output that is over the platform's limit (10 MB, or 20 MB by `/runsync`) is uploaded to the
    /// [bucket](crate::files::Upload), as `<job's id>/output.json`; off unless it is set. Clients then see
    /// `{"output_url": "https://…", "bytes": 12345678}` in its place, and find the output there for 7 days.
    ///
    /// If that fails, or there is no bucket, the job fails as it does without this. Chunks have a limit of their own.
    #[cfg(feature = "upload")]
    pub fn upload_large_results(mut self, upload: bool) -> Self {
        self.settings.options.upload_large_results = upload;
        self
    }

    /// Whether the worker is replaced after every job, as if each had called
    /// [`refresh_worker`](crate::Context::refresh_worker).
    pub fn refresh_worker(mut self, refresh: bool) -> Self {
        self.settings.options.refresh = refresh;
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
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.options.timeout = Some(timeout);
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
    pub fn breaker(mut self, jobs: usize) -> Self {
        self.settings.breaker = Some(jobs.max(1));
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
    ///     .own_metrics(|registry| registry.register("words", "Words counted", words));
    /// # drop(worker);
    /// ```
    #[cfg(feature = "metrics")]
    pub fn own_metrics(
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

    /// Has no machine checked: this is not one of the platform's.
    #[cfg(feature = "local")]
    pub(crate) fn at_home(mut self) -> Self {
        self.settings.fitness = None;
        self
    }

    /// What the environment says; the part of it that jobs go by is put into the settings.
    fn configure(&mut self) -> Result<Config, Error> {
        #[cfg(feature = "download")]
        {
            let limits = crate::config::DownloadLimits::read(|name| self.lookup(name))?;
            self.settings.options.download_limits = limits;
        }
        #[cfg(feature = "upload")]
        {
            let uploads = crate::config::UploadSettings::read(|name| self.lookup(name))?;
            self.settings.options.uploads = uploads.into();
        }
        let mut telemetry = std::mem::take(&mut self.settings.telemetry);
        telemetry.read(|name| self.lookup(name))?;
        self.settings.telemetry = telemetry;
        #[cfg(all(feature = "cache", unix))]
        if let Some(cache) = self.settings.cache.take() {
            let name = crate::config::given(|name| self.lookup(name), env::ENDPOINT_ID);
            self.settings.cache = Some(cache.or_name(name));
        }
        Config::read(|name| self.lookup(name), H::STREAMS)
    }

    fn lookup(&self, name: &str) -> Option<String> {
        self.env
            .get(name)
            .cloned()
            .or_else(|| std::env::var(name).ok())
    }
}

// The bound on `S` stands on each method: so a missing state is said in the words of `StateSource`.
impl<H: Handler, S> Worker<H, S> {
    /// Runs the worker until it is told to end: by SIGTERM or SIGINT, or by a job that has it replaced.
    ///
    /// On the platform it pulls jobs. Elsewhere it runs the job of `test_input.json` or `--test_input` on a platform
    /// of its own, or serves that platform's API with `--rp_serve_api`. Where the platform sets
    /// `RUNPOD_REALTIME_PORT`, it serves `POST /<endpoint>/realtime` there instead of pulling. For `--schema` it only prints what
    /// its handler takes and gives. It makes the async runtime itself, reads the
    /// command line and the environment, and writes the log to standard output unless the program has a `tracing`
    /// subscriber of its own. What keeps it from running is said in one line, and is exit code 1.
    pub fn run(self) -> ExitCode
    where
        S: StateSource<H::State>,
    {
        let on_platform = self
            .lookup(env::ENDPOINT_ID)
            .is_some_and(|id| !id.is_empty());
        let Err(error) = self.try_run(on_platform) else {
            return ExitCode::SUCCESS;
        };
        if on_platform && tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!("{error}");
        } else {
            eprintln!("error: {error}");
        }
        ExitCode::FAILURE
    }

    fn try_run(self, on_platform: bool) -> Result<(), Error>
    where
        S: StateSource<H::State>,
    {
        let args = Args::parse(std::env::args_os().skip(1))?;
        if args.schema {
            return print_schema::<H>();
        }
        let filter = log::LogFilter::read(args.level(), |name| self.lookup(name))?;
        #[cfg(feature = "otel")]
        match crate::telemetry::traces::layer()? {
            Some(traces) => log::init_beside(filter, on_platform, traces),
            None => log::init(filter, on_platform),
        }
        #[cfg(not(feature = "otel"))]
        log::init(filter, on_platform);
        note_panics();

        let handlers = started(
            Runtime::new_multi_thread()
                .thread_name("podwork")
                .max_blocking_threads(MOST_BLOCKING_THREADS),
        )?;
        let control = Control::start()?;
        let ended =
            handlers.block_on(control.run(self.start(args, handlers.handle().clone()).boxed()));
        // A blocking handler that was left behind must not hold up the exit.
        handlers.shutdown_background();
        ended
    }

    async fn start(mut self, args: Args, handlers: Handle) -> Result<(), Error>
    where
        S: StateSource<H::State>,
    {
        let shutdown = Shutdown::default();
        let signals = shutdown.clone().on_signals();
        let main = async {
            let wants_local = args.serve_api || args.test_input.is_some();
            let config = self.configure()?;
            match config.remote.clone() {
                Some(remote) if !wants_local && config.realtime.is_none() => {
                    let (settings, source) = (self.settings, self.source);
                    work::<H>(config, remote, settings, source, handlers, shutdown).await
                }
                _ => {
                    let (settings, source) = (self.settings, self.source);
                    let realtime = config.realtime;
                    run_locally::<H, S>(args, realtime, settings, source, handlers, shutdown).await
                }
            }
        };
        // Listening goes on beside the work until the work ends; it only ends first when it fails.
        tokio::pin!(main);
        tokio::select! {
            ended = &mut main => ended,
            listening = signals => {
                listening?;
                main.await
            }
        }
    }

    /// Pulls jobs until `shutdown` ends and the jobs at hand are done. Handlers and the set-up run on the caller's own
    /// async runtime, which must be tokio's; taking and delivering go on beside it, on a thread of their own. It reads
    /// the environment, but neither the command line nor signals, and sets up no log. Dropped, it ends at once.
    ///
    /// # Errors
    /// The environment names no platform or is malformed, a fitness check or the set-up failed, the worker became
    /// unhealthy, or jobs were left unfinished.
    pub async fn serve(mut self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error>
    where
        S: StateSource<H::State>,
    {
        note_panics();
        let config = self.configure()?;
        let remote = config.remote.clone().ok_or(Error::MissingVariable {
            variable: env::GET_JOB,
            because: "jobs are taken from there",
            expected: "a job-take URL",
        })?;
        let told = Shutdown::default();
        let _abort = told.abort.clone().drop_guard();
        let caller = told.clone().on(shutdown);
        let control = Control::start()?;
        let work = work::<H>(
            config,
            remote,
            self.settings,
            self.source,
            Handle::current(),
            told,
        );
        let main = control.run(work.boxed());
        tokio::pin!(main);
        tokio::select! {
            ended = &mut main => ended,
            () = caller => main.await,
        }
    }
}

/// The runtime of all that is not the user's, with one thread; it ends when this is dropped. It is no current-thread
/// runtime, since that one is woken by a call of the system's even while it is awake.
struct Control(Option<tokio::runtime::Runtime>);

impl Control {
    fn start() -> Result<Self, Error> {
        let mut builder = Runtime::new_multi_thread();
        let runtime = started(builder.worker_threads(1).thread_name("podwork-control"))?;
        Ok(Self(Some(runtime)))
    }

    /// Runs a future on it, and waits for its end.
    fn run<T: Send + 'static>(
        &self,
        future: BoxFuture<'static, T>,
    ) -> impl Future<Output = T> + Send + use<T> {
        let runtime = self.0.as_ref().expect("it is there until it is dropped");
        let running = runtime.spawn(future);
        async {
            match running.await {
                Ok(ended) => ended,
                // It is never cancelled while the runtime is there.
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn started(builder: &mut Runtime) -> Result<tokio::runtime::Runtime, Error> {
    builder
        .enable_all()
        .build()
        .map_err(|source| Error::System {
            what: "starting an async runtime",
            source,
        })
}

#[cfg(feature = "schema")]
fn print_schema<H: Handler>() -> Result<(), Error> {
    crate::handler::schema::print::<H>()
}

#[cfg(not(feature = "schema"))]
fn print_schema<H: Handler>() -> Result<(), Error> {
    Err(Error::Flag {
        flag: "--schema",
        problem: format!(
            "the handler `{}` tells no schema: write `#[handler(schema)]` above it, and switch on podwork's feature \
             `schema`",
            H::NAME
        ),
    })
}

#[cfg(feature = "local")]
async fn run_locally<H: Handler, S: StateSource<H::State>>(
    args: Args,
    realtime: Option<Realtime>,
    settings: Settings,
    source: S,
    handlers: Handle,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let mode = if args.serve_api {
        Mode::Serve(Serve {
            host: args.api_host,
            port: args.api_port,
            concurrency: args.api_concurrency,
        })
    } else if let Some(realtime) = realtime {
        Mode::Realtime(realtime)
    } else {
        Mode::TestInput(TestInput {
            request: args.test_input,
            expected: args.test_output,
        })
    };
    crate::local::run::<H>(mode, settings, source, handlers, shutdown).await
}

#[cfg(not(feature = "local"))]
fn run_locally<H: Handler, S: StateSource<H::State>>(
    _: Args,
    _: Option<Realtime>,
    _: Settings,
    _: S,
    _: Handle,
    _: Shutdown,
) -> impl Future<Output = Result<(), Error>> {
    futures::future::err(Error::MissingVariable {
        variable: env::GET_JOB,
        because: "this worker was built without the local platform (feature `local`)",
        expected: "a job-take URL",
    })
}

/// Runs a worker whose handler needs no state, one job at a time.
///
/// ```no_run
/// #[podwork::handler]
/// async fn greet(name: String) -> String {
///     format!("Hello, {name}!")
/// }
///
/// fn main() -> podwork::ExitCode {
///     podwork::run::<greet>()
/// }
/// ```
pub fn run<H: Handler>() -> ExitCode
where
    NoState: StateSource<H::State>,
{
    Worker::new::<H>().run()
}
