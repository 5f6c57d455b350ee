//! A worker with a handler of any type: what starting it takes is compiled once, not once per handler.

use std::collections::HashMap;
use std::future::Future;
use std::process::ExitCode;

use futures::FutureExt as _;
use podwork_protocol::env;
use tokio::runtime::{Builder as Runtime, Handle};

use crate::config::Config;
use crate::error::Error;
use crate::error::panics;
#[cfg(feature = "local")]
use crate::local::{Mode, Serve, TestInput};
use crate::net::http::chain;
use crate::net::tls::install_default_provider;
use crate::run::bound::UnboundHandler;
use crate::stderr::note;
use crate::telemetry::log;
use crate::worker::{Launch, Shutdown, WorkerSettings, poll};

use super::args::Args;
use super::control::{Control, default_workers, outside_runtime, started};

/// The maximum number of threads for blocking handlers and other blocking work. Threads start on demand.
const MOST_BLOCKING_THREADS: usize = 4096;

/// A configured worker.
pub(super) struct AnyWorker {
    pub(super) handler: UnboundHandler,
    pub(super) settings: WorkerSettings,
    /// The worker's own environment variables, which override those of the process.
    pub(super) env: HashMap<String, String>,
}

impl AnyWorker {
    /// See [`Worker::run`](super::Worker::run).
    pub(super) fn run(self) -> ExitCode {
        let on_platform = self
            .lookup(env::ENDPOINT_ID)
            .is_some_and(|id| !id.is_empty());
        let ended = self.try_run(on_platform);
        let code = match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let error = chain(&error);
                if on_platform && tracing::enabled!(tracing::Level::ERROR) {
                    tracing::error!("{error}");
                } else {
                    note(format_args!("error: {error}"));
                }
                ExitCode::FAILURE
            }
        };
        log::flush();
        code
    }

    fn try_run(self, on_platform: bool) -> Result<(), Error> {
        panics::note();
        outside_runtime()?;
        let args = Args::parse(std::env::args_os().skip(1))?;
        if args.schema {
            return print_schema(&self.handler);
        }
        let filter = log::LogFilter::read(args.level(), |name| self.lookup(name))?;
        #[cfg(feature = "otel")]
        match crate::telemetry::traces::layer()? {
            Some(traces) => log::init_beside(filter, on_platform, traces),
            None => log::init(filter, on_platform),
        }
        #[cfg(not(feature = "otel"))]
        log::init(filter, on_platform);
        install_default_provider();

        let handlers = started(
            Runtime::new_multi_thread()
                .thread_name("podwork")
                .max_blocking_threads(MOST_BLOCKING_THREADS),
            default_workers(),
        )?;
        let control = Control::start()?;
        let ended =
            handlers.block_on(control.run(self.start(args, handlers.handle().clone()).boxed()));
        // Does not wait for blocking handlers that are still running.
        handlers.shutdown_background();
        ended
    }

    async fn start(mut self, args: Args, handlers: Handle) -> Result<(), Error> {
        let shutdown = Shutdown::default();
        let signals = shutdown.clone().on_signals();
        let main = async {
            let wants_local = args.serve_api || args.test_input.is_some();
            let config = self.configure()?;
            let launch = self.launch(handlers, shutdown);
            // Each mode is boxed, so that a worker takes only the memory of its own.
            if wants_local {
                run_locally(args, launch).boxed().await
            } else if let Some(realtime) = config.realtime.clone() {
                crate::http::serve(&realtime, launch, config).boxed().await
            } else if config.remote.is_some() {
                poll(launch, config).boxed().await
            } else {
                run_locally(args, launch).boxed().await
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

    /// See [`Worker::serve`](super::Worker::serve).
    pub(super) async fn serve(
        mut self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        panics::note();
        install_default_provider();
        let config = self.configure()?;
        let ending = Shutdown::default();
        let _abort = ending.abort.clone().drop_guard();
        let caller = ending.clone().on(shutdown);
        let control = Control::start()?;
        let launch = self.launch(Handle::current(), ending);
        let main = control.run(poll(launch, config).boxed());
        tokio::pin!(main);
        tokio::select! {
            ended = &mut main => ended,
            () = caller => main.await,
        }
    }

    /// Reads the configuration from the environment, and stores the part that concerns jobs in the settings.
    fn configure(&mut self) -> Result<Config, Error> {
        #[cfg(feature = "download")]
        {
            let limits = crate::config::DownloadLimits::read(|name| self.lookup(name))?;
            self.settings.job.download_limits = limits;
        }
        #[cfg(feature = "upload")]
        {
            let uploads = crate::config::UploadSettings::read(|name| self.lookup(name))?;
            uploads.warn_of_unsigned_urls();
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
        Config::read(|name| self.lookup(name), self.handler.kind.streams())
    }

    fn launch(self, handlers: Handle, shutdown: Shutdown) -> Launch {
        Launch {
            settings: self.settings,
            handler: self.handler,
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

#[cfg(feature = "schema")]
fn print_schema(handler: &UnboundHandler) -> Result<(), Error> {
    crate::handler::schema::print(handler.name, handler.schema)
}

#[cfg(not(feature = "schema"))]
fn print_schema(handler: &UnboundHandler) -> Result<(), Error> {
    Err(Error::Flag {
        flag: "--rp_schema",
        problem: format!(
            "the handler `{}` has no schema: write `#[handler(schema)]` above it, and enable podwork's feature \
             `schema`",
            handler.name
        ),
    })
}

#[cfg(feature = "local")]
async fn run_locally(args: Args, launch: Launch) -> Result<(), Error> {
    let mode = if args.serve_api {
        Mode::Serve(Serve {
            host: args.api_host,
            port: args.api_port,
            allow_hosts: args.api_allow_host,
            allow_origins: args.api_allow_origin,
            allow_private_webhooks: args.api_allow_private_webhooks,
            concurrency: args.api_concurrency,
        })
    } else {
        Mode::TestInput(TestInput {
            request: args.test_input,
            expected: args.test_output,
        })
    };
    crate::local::run(mode, launch).await
}

#[cfg(not(feature = "local"))]
fn run_locally(_: Args, _: Launch) -> impl Future<Output = Result<(), Error>> {
    futures::future::err(Error::MissingVariable {
        variable: env::GET_JOB,
        because: "this worker was built without the local platform (cargo feature `local`)",
        expected: "a job-take URL",
    })
}
