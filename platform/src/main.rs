//! The `podwork-platform` program.

use std::collections::BTreeMap;
use std::env::{self, VarError};
use std::fmt::Display;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use podwork_platform::{Builder, Error, Faults, HandlerSchema, Platform, Rules, start_runtime};
use podwork_protocol::without_bom;
use tokio::runtime::Builder as Runtime;
use tracing::Level;

/// Returns the memory of ended jobs and connections to the operating system, which the default allocator hardly does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The environment variable with the webhook signing secret.
const WEBHOOK_SECRET: &str = "PODWORK_WEBHOOK_SECRET";

/// The exit code of invalid arguments, which is also clap's.
const USAGE: u8 = 2;

/// A local Runpod Serverless platform: clients submit jobs to it, and workers poll it for jobs.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Port to listen on; 0 picks a free port
    #[arg(long, default_value_t = 8000)]
    port: u16,

    /// Host to listen on; a name stands for all its addresses on this machine
    #[arg(long, default_value = "localhost")]
    host: String,

    /// Id of the default endpoint: the printed worker variables use it, and its API is also at the root
    #[arg(long, default_value = "local")]
    endpoint: String,

    /// API key that clients must send; without it, no key is required. Prefer the environment variable: other users of
    /// the machine can see arguments
    #[arg(long, env = "PODWORK_API_KEY", hide_env_values = true)]
    api_key: Option<String>,

    /// API key that workers must send; default: the clients' key
    #[arg(long, env = "PODWORK_WORKER_KEY", hide_env_values = true)]
    worker_key: Option<String>,

    /// Further name of this platform in the `Host` header, such as that of a service in Docker Compose or Kubernetes.
    /// Without an API key, the platform answers only to `localhost`, addresses and these names; can be repeated
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,

    /// Origin whose pages may call the platform, such as `http://localhost:3000`; can be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,

    /// Allow webhooks at addresses that are not public, or not; default: only if the platform listens on nothing but
    /// loopback. Set it to `false` behind a public proxy
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    allow_private_webhooks: Option<bool>,

    /// Rules for all endpoints, such as `run_rate=0,run_retention=5m,ttl=1h,chunk=64KB,tries=5`; with a prefix `ID:`,
    /// for one endpoint: `slow:execution_timeout=1h`. `current` sets the rules of Runpod's documentation and behavior
    /// since August 2026: `current,tries=5`. `running_word=RUNNING`, `strip_empty_input=false`, `webhook_pauses=5s/15s`
    /// and `lost_error=TEXT` change what clients, workers and webhooks see. RULES.md lists the rules
    #[arg(long, value_name = "[ID:]RULES")]
    rules: Vec<String>,

    /// File with the JSON Schemas of the default endpoint's input and output, shown by `/docs` and `/openapi.json`:
    /// what a worker prints with `--rp_schema`; with a prefix `ID:`, for another endpoint
    #[arg(long, value_name = "[ID:]FILE")]
    schema: Vec<String>,

    /// File with the secret that signs webhook calls; default: the environment variable `PODWORK_WEBHOOK_SECRET`.
    /// Without a secret, calls are not signed
    #[arg(long, value_name = "FILE")]
    webhook_secret_file: Option<PathBuf>,

    /// Faults to inject, such as `errors=0.1,latency=20ms..200ms,blackout=2s/30s,seed=7`; also `throttled`, `dropped`
    /// and `lost`
    #[arg(long)]
    fault: Option<Faults>,
}

fn main() -> ExitCode {
    show_warnings();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(shown) => return show(&shown),
    };
    match start_runtime(Runtime::new_multi_thread().enable_all()) {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(error) => {
            note(format_args!(
                "error: cannot start an async runtime: {error}"
            ));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> ExitCode {
    match serve(args).await {
        Ok(code) => code,
        Err(error) => {
            note(format_args!("error: {error}"));
            match error {
                Error::EndpointId(_)
                | Error::Fault(_)
                | Error::Rule(_)
                | Error::Schema { .. }
                | Error::ApiKey { .. }
                | Error::AllowedHost(_)
                | Error::AllowedOrigin(_)
                | Error::WebhookSecret(_) => ExitCode::from(USAGE),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Prints the help, the version, or an error in the arguments.
fn show(shown: &clap::Error) -> ExitCode {
    let printed = shown.print().and_then(|()| io::stdout().flush());
    if shown.use_stderr() {
        return ExitCode::from(USAGE);
    }
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => unwritable(&error),
        _ => ExitCode::SUCCESS,
    }
}

/// Prints a line on standard error. Ignores errors, because there is no other place to report them.
fn note(line: impl Display) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(format!("{line}\n").as_bytes());
}

fn unwritable(error: &io::Error) -> ExitCode {
    note(format_args!(
        "error: cannot write to standard output: {error}"
    ));
    ExitCode::FAILURE
}

/// Writes the warnings of the platform to standard error, such as those of webhooks that fail.
fn show_warnings() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(Level::WARN)
        .with_target(false)
        // It would report a closed standard error by a panic.
        .log_internal_errors(false)
        .init();
}

async fn serve(args: Args) -> Result<ExitCode, Error> {
    let mut builder = Platform::builder()
        .bind(&args.host, args.port)
        .endpoint(&args.endpoint);
    if let Some(allow) = args.allow_private_webhooks {
        builder = builder.allow_private_webhooks(allow);
    }
    builder = with_rules(builder, &args.rules)?;
    for text in &args.schema {
        let (id, file) = text.split_once(':').unwrap_or((&args.endpoint, text));
        builder = builder.endpoint_schema(id, read_schema(file)?);
    }
    if let Some(key) = &args.api_key {
        builder = builder.api_key(key);
    }
    if let Some(key) = &args.worker_key {
        builder = builder.worker_key(key);
    }
    builder = args
        .allow_host
        .iter()
        .fold(builder, |builder, host| builder.allow_host(host));
    let origins = args.allow_origin.iter();
    builder = origins.fold(builder, |builder, origin| builder.allow_origin(origin));
    if let Some(secret) = webhook_secret(args.webhook_secret_file.as_deref())? {
        builder = builder.webhook_secret(&secret);
    }
    // In a worker's directory, this file is a typical job of that worker.
    if let Ok(example) = std::fs::read_to_string("test_input.json") {
        builder = builder.example(&example);
    }
    if let Some(faults) = args.fault {
        builder = builder.faults(faults);
    }
    let platform = builder.start().await?;
    let code = match directions(&platform, &args.endpoint) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => unwritable(&error),
        printed => {
            if printed.is_err() {
                note(format_args!(
                    "The reader has closed standard output. Console: {}/",
                    platform.url()
                ));
            }
            ended().await;
            ExitCode::SUCCESS
        }
    };
    platform.shutdown().await;
    Ok(code)
}

/// Prints how a worker, a client and a browser connect to the platform. Writes everything at once, so that a reader may
/// close the pipe after the first part.
fn directions(platform: &Platform, endpoint: &str) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let url = platform.url();
    writeln!(
        out,
        "# Run these lines in the worker's terminal; each worker gets its own id:"
    )?;
    for (variable, value) in platform.worker_env("worker-$$") {
        // The shell expands only `$$`, in the worker id.
        let quote = if value.contains("$$") { '"' } else { '\'' };
        writeln!(out, "export {variable}={quote}{value}{quote}")?;
    }
    let client_url = platform.client_url();
    writeln!(out, "# Clients: base URL {client_url}, endpoint {endpoint}")?;
    writeln!(out, "# Console: {url}/")?;
    writeln!(out, "#   curl -X POST {url}/run -d '{{\"input\": …}}'")?;
    out.flush()
}

fn read_schema(file: &str) -> Result<HandlerSchema, Error> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
    let schema = text.and_then(|text| {
        serde_json::from_str(without_bom(&text)).map_err(|error| error.to_string())
    });
    schema.map_err(|problem| Error::Schema {
        file: file.to_owned(),
        problem,
    })
}

/// Reads the webhook secret. It is not an argument, because all users of the machine can see arguments.
fn webhook_secret(file: Option<&Path>) -> Result<Option<String>, Error> {
    let Some(file) = file else {
        return match env::var(WEBHOOK_SECRET) {
            Ok(secret) => Ok(Some(secret)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => Err(Error::WebhookSecret(format!(
                "the environment variable {WEBHOOK_SECRET} is not valid UTF-8"
            ))),
        };
    };
    let secret = std::fs::read_to_string(file)
        .map_err(|error| Error::WebhookSecret(format!("cannot read {}: {error}", file.display())));
    Ok(Some(without_bom(&secret?).to_owned()))
}

/// Sets the rules. Rules of one endpoint extend the rules for all endpoints, in whatever order they are given.
fn with_rules(mut builder: Builder, texts: &[String]) -> Result<Builder, Error> {
    let mut all = Rules::default();
    let mut own: BTreeMap<&str, String> = BTreeMap::new();
    for text in texts {
        match text.split_once(':') {
            Some((id, text)) => {
                let rules = own.entry(id).or_default();
                rules.push(',');
                rules.push_str(text);
            }
            None => all = all.with(text)?,
        }
    }
    for (id, text) in own {
        builder = builder.endpoint_rules(id, all.clone().with(&text)?);
    }
    Ok(builder.rules(all))
}

/// Waits for Ctrl-C or SIGTERM.
async fn ended() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = tokio::signal::ctrl_c() => return,
            }
        }
    }
    // On an error no signal can be received; then only SIGKILL ends the platform.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
