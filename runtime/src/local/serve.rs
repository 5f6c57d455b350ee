//! `--rp_serve_api`: the platform's API on a local port, in front of this worker.

use crate::error::Error;
use crate::output::print;
use crate::worker::Launch;

use super::loopback::work_for;
use super::{platform, test_input};

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 8000;

/// The options of the API server. `None`: the default.
#[derive(Debug)]
pub(crate) struct Serve {
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    /// Further names of the API server in the `Host` header.
    pub(crate) allow_hosts: Vec<String>,
    /// The origins whose pages may call the API.
    pub(crate) allow_origins: Vec<String>,
    /// Allows webhook calls to private addresses, whatever the API server listens on.
    pub(crate) allow_private_webhooks: bool,
    /// The maximum number of concurrent jobs. Overrides the builder's.
    pub(crate) concurrency: Option<usize>,
}

pub(super) async fn run(serve: Serve, mut launch: Launch) -> Result<(), Error> {
    let host = serve.host.as_deref().unwrap_or(DEFAULT_HOST);
    let port = serve.port.unwrap_or(DEFAULT_PORT);
    if let Some(jobs) = serve.concurrency {
        launch.settings.fix_concurrency(jobs);
    }
    let mut builder = platform(&launch.handler).bind(host, port);
    if serve.allow_private_webhooks {
        builder = builder.allow_private_webhooks(true);
    }
    for host in &serve.allow_hosts {
        builder = builder.allow_host(host);
    }
    for origin in &serve.allow_origins {
        builder = builder.allow_origin(origin);
    }
    if let Some(example) = test_input::example() {
        builder = builder.example(&example);
    }
    let platform = builder.start().await?;
    let url = platform.url();
    let directions = format!(
        "Serving `{}` at {url} (press Ctrl-C to stop). Open it in a browser, or try:\n  \
         curl -X POST {url}/run -d '{{\"input\": …}}'\n  \
         curl {url}/stream/<id>    curl {url}/status/<id>    curl {url}/health\n",
        launch.handler.name
    );
    print(directions)?;
    let ended = work_for(&platform, launch).await;
    platform.shutdown().await;
    ended
}
