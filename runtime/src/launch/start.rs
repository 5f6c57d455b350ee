//! The two ways to start a worker: from its command line, or inside the caller's async runtime.

use std::future::Future;
use std::process::ExitCode;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use podwork_protocol::env;
use tokio::runtime::{Builder as Runtime, Handle};

use crate::error::Error;
use crate::error::handler_error::note_panics;
use crate::handler::Handler;
use crate::handler::state::{NoState, StateSource};
#[cfg(feature = "local")]
use crate::local::{Mode, Serve, TestInput};
use crate::net::http::chain;
use crate::telemetry::log;
use crate::worker::{Launch, Shutdown, poll};

use super::args::Args;
use super::builder::Worker;

/// The maximum number of threads for blocking handlers and other blocking work. Threads start on demand.
const MOST_BLOCKING_THREADS: usize = 4096;

// The bound on `S` is on each method, so that the compiler reports a missing state with the message of `StateSource`.
impl<H: Handler, S> Worker<H, S> {
    /// Runs the worker until it shuts down: on SIGTERM or SIGINT, or when a job requests the worker's replacement.
    ///
    /// On the platform, the worker fetches jobs. Elsewhere, it runs the job in `test_input.json` or `--test_input` on
    /// the local platform, or serves the API of the local platform with `--rp_serve_api`. If the platform sets
    /// `RUNPOD_REALTIME_PORT`, the worker serves `POST /<endpoint>/realtime` on that port instead of fetching jobs.
    /// With `--rp_schema`, it only prints the schema of its handler's input and output.
    ///
    /// This method creates the async runtime, reads the command line and the environment, and writes the log to
    /// standard output unless the program has its own `tracing` subscriber. If the worker cannot run, it reports the
    /// error in one line and returns exit code 1.
    ///
    /// If the worker is process 1 of a container, this method starts the program again as a child and does not return:
    /// the child runs the jobs, and process 1 passes signals on, collects orphaned processes, and exits with the exit
    /// code of the child. So `main` runs up to this call in both processes. Load what is large in
    /// [`setup`](Self::setup). `PODWORK_INIT=0` disables this.
    pub fn run(self) -> ExitCode
    where
        S: StateSource<H::State>,
    {
        #[cfg(unix)]
        if super::init::is_wanted(|name| self.lookup(name)) {
            // Frees the state and the ports that the child needs.
            drop(self);
            return super::init::run();
        }
        let on_platform = self
            .lookup(env::ENDPOINT_ID)
            .is_some_and(|id| !id.is_empty());
        let Err(error) = self.try_run(on_platform) else {
            return ExitCode::SUCCESS;
        };
        let error = chain(&error);
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
        // Does not wait for blocking handlers that are still running.
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
            let launch = self.launch(handlers, shutdown);
            if wants_local {
                run_locally::<H, S>(args, launch).await
            } else if let Some(realtime) = config.realtime.clone() {
                crate::http::serve::<H, S>(&realtime, launch, config).await
            } else if config.remote.is_some() {
                poll::<H, S>(launch, config).await
            } else {
                run_locally::<H, S>(args, launch).await
            }
        };
        // The signal listener ends before the worker only if it fails, or after the second signal.
        tokio::pin!(main);
        tokio::select! {
            ended = &mut main => ended,
            listening = signals => {
                listening?;
                main.await
            }
        }
    }

    /// Fetches and runs jobs until `shutdown` completes, then waits for the jobs in flight.
    ///
    /// Handlers and the set-up run on the caller's async runtime, which must be tokio's. Polling and delivery run on a
    /// separate thread. This method reads the environment, but not the command line, handles no signals, and sets up no
    /// log. If the future is dropped, the worker ends immediately.
    ///
    /// # Errors
    /// Returns an error if the environment names no platform or is invalid, a fitness check or the set-up fails, the
    /// worker becomes unhealthy, or jobs are left unfinished.
    pub async fn serve(mut self, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error>
    where
        S: StateSource<H::State>,
    {
        note_panics();
        let config = self.configure()?;
        let ending = Shutdown::default();
        let _abort = ending.abort.clone().drop_guard();
        let caller = ending.clone().on(shutdown);
        let control = Control::start()?;
        let launch = self.launch(Handle::current(), ending);
        let main = control.run(poll::<H, S>(launch, config).boxed());
        tokio::pin!(main);
        tokio::select! {
            ended = &mut main => ended,
            () = caller => main.await,
        }
    }
}

/// The runtime for the worker's own tasks, with one thread. It shuts down when this is dropped. It is not a
/// current-thread runtime, because each wake-up of such a runtime costs a system call, even while it is awake.
struct Control(Option<tokio::runtime::Runtime>);

impl Control {
    fn start() -> Result<Self, Error> {
        let mut builder = Runtime::new_multi_thread();
        let runtime = started(builder.worker_threads(1).thread_name("podwork-control"))?;
        Ok(Self(Some(runtime)))
    }

    /// Spawns a task on the runtime. The returned future waits for its result.
    fn run<T: Send + 'static>(
        &self,
        future: BoxFuture<'static, T>,
    ) -> impl Future<Output = T> + Send + use<T> {
        let runtime = self.0.as_ref().expect("the runtime exists until drop");
        let running = runtime.spawn(future);
        async {
            match running.await {
                Ok(ended) => ended,
                // The task is never cancelled while the runtime exists, so it has panicked.
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
            what: "start an async runtime",
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
        flag: "--rp_schema",
        problem: format!(
            "the handler `{}` has no schema: write `#[handler(schema)]` above it, and enable podwork's feature \
             `schema`",
            H::NAME
        ),
    })
}

#[cfg(feature = "local")]
async fn run_locally<H: Handler, S: StateSource<H::State>>(
    args: Args,
    launch: Launch<S>,
) -> Result<(), Error> {
    let mode = if args.serve_api {
        Mode::Serve(Serve {
            host: args.api_host,
            port: args.api_port,
            concurrency: args.api_concurrency,
        })
    } else {
        Mode::TestInput(TestInput {
            request: args.test_input,
            expected: args.test_output,
        })
    };
    crate::local::run::<H, S>(mode, launch).await
}

#[cfg(not(feature = "local"))]
fn run_locally<H: Handler, S: StateSource<H::State>>(
    _: Args,
    _: Launch<S>,
) -> impl Future<Output = Result<(), Error>> {
    futures::future::err(Error::MissingVariable {
        variable: env::GET_JOB,
        because: "this worker was built without the local platform (cargo feature `local`)",
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
