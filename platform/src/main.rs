//! The local platform as a program.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use podwork_platform::{Builder, Error, Faults, HandlerSchema, Platform, Rules};

/// Gives the memory of ended jobs and connections back to the system, which the system's own allocator hardly does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Environment variable with the secret that webhook calls are signed with.
const WEBHOOK_SECRET: &str = "PODWORK_WEBHOOK_SECRET";

/// A local Runpod Serverless platform: workers pull jobs from it, clients send jobs to it.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Port to listen on; 0 for a free one
    #[arg(long, default_value_t = 8000)]
    port: u16,

    /// Host to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,

    /// Id of the endpoint that workers are pointed to, and that answers at the root
    #[arg(long, default_value = "local")]
    endpoint: String,

    /// Key that clients have to show; none unless it is set
    #[arg(long)]
    api_key: Option<String>,

    /// Key that workers have to show; the clients' unless it is set
    #[arg(long)]
    worker_key: Option<String>,

    /// Rules of all endpoints, such as `run_rate=0,run_retention=5m,ttl=1h,chunk=64KB,tries=5`; of one endpoint with its
    /// id before them: `slow:execution_timeout=1h`
    #[arg(long, value_name = "[ID:]RULES")]
    rules: Vec<String>,

    /// File with what the endpoint takes and gives, as JSON Schema, for the pages and `/openapi.json` to show: what a
    /// worker prints for `--rp_schema`; of another endpoint with its id before it
    #[arg(long, value_name = "[ID:]FILE")]
    schema: Vec<String>,

    /// File with the secret that webhook calls are signed with; without it, the environment's `PODWORK_WEBHOOK_SECRET`.
    /// Calls are not signed unless there is one
    #[arg(long, value_name = "FILE")]
    webhook_secret_file: Option<PathBuf>,

    /// Trouble on purpose, such as `errors=0.1,latency=20ms..200ms,blackout=2s/30s,seed=7`; also `throttled`, `dropped`
    /// and `lost`
    #[arg(long)]
    fault: Option<Faults>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> Result<(), Error> {
    let mut builder = Platform::builder()
        .bind(&args.host, args.port)
        .endpoint(&args.endpoint);
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
    if let Some(secret) = webhook_secret(args.webhook_secret_file.as_deref())? {
        builder = builder.webhook_secret(&secret);
    }
    // What a worker's own folder holds is what its jobs look like.
    if let Ok(example) = std::fs::read_to_string("test_input.json") {
        builder = builder.example(&example);
    }
    if let Some(faults) = args.fault {
        builder = builder.faults(faults);
    }
    let platform = builder.start().await?;
    if args.api_key.is_none() && !platform.addr().ip().is_loopback() {
        eprintln!(
            "warning: anybody who reaches {} can run jobs here; --api-key asks for a key",
            platform.addr()
        );
    }
    if let Err(error) = directions(&platform, &args.endpoint) {
        eprintln!(
            "warning: standard output takes nothing ({error}). Console: {}/",
            platform.url()
        );
    }
    ended().await;
    platform.shutdown().await;
    Ok(())
}

/// Prints what a worker, a client and a browser need to find the platform; all at once, so that who has read a part of it
/// may close the other end.
fn directions(platform: &Platform, endpoint: &str) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let url = platform.url();
    writeln!(
        out,
        "# In a worker's terminal; each worker has an id of its own:"
    )?;
    for (variable, value) in platform.worker_env("worker-$$") {
        // Only the id is for the shell to fill in.
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
    let schema =
        text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
    schema.map_err(|problem| Error::Schema {
        file: file.to_owned(),
        problem,
    })
}

/// Reads the webhook secret, which is no argument: those can be seen by all users of the machine.
fn webhook_secret(file: Option<&Path>) -> Result<Option<String>, Error> {
    let Some(file) = file else {
        return Ok(std::env::var(WEBHOOK_SECRET).ok());
    };
    let secret = std::fs::read_to_string(file)
        .map_err(|error| Error::WebhookSecret(format!("cannot read {}: {error}", file.display())));
    secret.map(Some)
}

/// Those of one endpoint stand on those of all, whatever their order.
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
    // An error here means that no signal can be listened for; then only a kill ends the platform.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
