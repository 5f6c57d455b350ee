//! The public API of the platform: builder, start, shutdown.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, Stream};
use podwork_protocol::client::{RunRequest, StatusResponse};
use podwork_protocol::{HandlerSchema, env, limits, without_bom};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::answers::status;
use crate::api_key::ApiKey;
use crate::browser_guard::BrowserGuard;
use crate::connections::{listen, serve};
use crate::endpoint_handle::EndpointHandle;
use crate::engine::Refusal;
use crate::error::Error;
use crate::faults::Faults;
use crate::job_events::{JobEvent, follow};
use crate::registry::{Registry, is_endpoint_id};
use crate::routes::router;
use crate::rules::Rules;
use crate::run_request::submission_of;
use crate::settings::Settings;
use crate::store::Wanted;
use crate::webhook_signature::Secret;

/// The time that connections have to end when the platform shuts down.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A builder for a [`Platform`].
#[derive(Debug)]
#[must_use = "a platform does nothing until it is started"]
pub struct Builder {
    host: String,
    port: u16,
    endpoint: String,
    settings: Settings,
    api_key: Option<String>,
    worker_key: Option<String>,
    allowed_hosts: Vec<String>,
    allowed_origins: Vec<String>,
    private_webhooks: Option<bool>,
    /// The schema of the default endpoint.
    schema: Option<HandlerSchema>,
    webhook_secret: Option<String>,
    faults: Option<Faults>,
}

impl Builder {
    /// Sets the address to listen on; port 0 picks a free port. A name stands for all its addresses that this machine
    /// has, and `localhost` for both loopback addresses. An IPv6 address may have brackets. Default: `127.0.0.1` and
    /// port 0.
    pub fn bind(mut self, host: &str, port: u16) -> Self {
        (self.host, self.port) = (host.to_owned(), port);
        self
    }

    /// Sets the id of the default endpoint, whose API is also at the root. Default: `local`.
    pub fn endpoint(mut self, id: &str) -> Self {
        id.clone_into(&mut self.endpoint);
        self
    }

    /// Sets the rules of all endpoints without their own rules. Default: the documented limits.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.settings.rules = rules;
        self
    }

    /// Sets the rules of one endpoint.
    pub fn endpoint_rules(mut self, id: &str, rules: Rules) -> Self {
        self.settings.own_rules.insert(id.to_owned(), rules);
        self
    }

    /// Sets the ping interval for workers. Default: 10 s. [`Rules::silence`] limits how long a worker may be silent.
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.settings.ping_interval = interval;
        self
    }

    /// Sets the API key that clients must send, as `Authorization: Bearer <key>` or as `Authorization: <key>`. Workers
    /// must send it too, unless they have a [key of their own](Self::worker_key). Default: no key is required.
    ///
    /// [`start`](Self::start) rejects a key that nobody could send, such as an empty one.
    pub fn api_key(mut self, key: &str) -> Self {
        self.api_key = Some(key.to_owned());
        self
    }

    /// Sets the API key that workers must send. [`Platform::worker_env`] contains it. Default: the clients' key.
    pub fn worker_key(mut self, key: &str) -> Self {
        self.worker_key = Some(key.to_owned());
        self
    }

    /// Allows another name of the platform in the `Host` header, such as the name of a service in Docker Compose or
    /// Kubernetes. Can be called several times.
    ///
    /// If clients need no API key, the platform answers only to `localhost`, to addresses, to the host that it listens
    /// on, and to allowed names. Otherwise a web page could rebind its own name to the platform's address, and run jobs.
    pub fn allow_host(mut self, host: &str) -> Self {
        self.allowed_hosts.push(host.to_owned());
        self
    }

    /// Allows the pages of another origin, such as `http://localhost:3000`, to call the platform. Can be called several
    /// times. Default: the platform refuses all calls of pages that it has not served.
    pub fn allow_origin(mut self, origin: &str) -> Self {
        self.allowed_origins.push(origin.to_owned());
        self
    }

    /// Sets whether webhook calls may go to addresses that are not public. Default: `true` if the platform listens only
    /// on loopback, otherwise `false`, so that clients cannot reach the platform's own network. Set it to
    /// `false` for a platform behind a public proxy on the same machine.
    pub fn allow_private_webhooks(mut self, allow: bool) -> Self {
        self.private_webhooks = Some(allow);
        self
    }

    /// Sets the secret that signs webhook calls, so that a receiver can verify their origin: `whsec_` followed by
    /// base64, or any other text of at least 16 bytes. Default: calls are not signed.
    ///
    /// The signature follows [Standard Webhooks](https://www.standardwebhooks.com). The headers are `webhook-id`,
    /// `webhook-timestamp` (Unix time in seconds) and `webhook-signature`: `v1,` followed by the base64 of the
    /// HMAC-SHA256 of `<id>.<timestamp>.<body>`.
    pub fn webhook_secret(mut self, secret: &str) -> Self {
        self.webhook_secret = Some(secret.to_owned());
        self
    }

    /// Injects faults, to test how workers and clients handle them. Default: no faults.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// Sets the initial request body of the console's form, as JSON text.
    pub fn example(mut self, request: &str) -> Self {
        self.settings.example = Some(without_bom(request).to_owned());
        self
    }

    /// Sets the schema of the default endpoint's input and output, shown by `/docs` and `/openapi.json`. The platform
    /// does not validate inputs against it; the worker does.
    pub fn schema(mut self, schema: HandlerSchema) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Sets the schema of another endpoint's input and output.
    pub fn endpoint_schema(mut self, id: &str, schema: HandlerSchema) -> Self {
        self.settings.schemas.insert(id.to_owned(), schema);
        self
    }

    /// Starts the platform on the caller's tokio runtime.
    ///
    /// # Errors
    /// Returns an error if the address is unavailable, or if a key, the webhook secret, an allowed host or origin, or an
    /// endpoint id is invalid.
    pub async fn start(mut self) -> Result<Platform, Error> {
        self.complete_settings()?;
        let listeners = listen(&self.host, self.port).await?;
        let addrs = listeners.iter().map(TcpListener::local_addr);
        let addrs: Vec<SocketAddr> = addrs.collect::<Result<_, _>>().map_err(|reason| {
            let address = format!("{}:{}", self.host, self.port);
            let cure = "choose a host name or address of this machine";
            Error::Bind {
                address,
                reason,
                cure,
            }
        })?;
        let settings = &mut self.settings;
        let public = addrs.iter().find(|addr| !addr.ip().is_loopback());
        settings.public_webhooks_only = !self.private_webhooks.unwrap_or(public.is_none());
        if let (Some(address), None) = (public, &settings.api_key) {
            warn!(%address, "No API key is set: anyone who can reach this address can run jobs.");
        }
        let closing = CancellationToken::new();
        let registry = Arc::new(Registry::new(self.settings, self.endpoint, closing.clone()));
        let router = router(Arc::clone(&registry), self.faults);
        Ok(Platform {
            addr: addrs[0],
            registry,
            servers: Mutex::new(serve(listeners, &router, &closing)),
            closing: Closing(closing),
        })
    }

    /// Checks what the caller has set, and moves it into the settings.
    fn complete_settings(&mut self) -> Result<(), Error> {
        let settings = &mut self.settings;
        if let Some(schema) = self.schema.take() {
            settings.schemas.insert(self.endpoint.clone(), schema);
        }
        let own = settings.own_rules.keys().chain(settings.schemas.keys());
        for id in own.chain([&self.endpoint]) {
            if !is_endpoint_id(id) {
                return Err(Error::EndpointId(id.clone()));
            }
        }
        let secret = self.webhook_secret.take();
        settings.webhook_secret = secret.map(|secret| Secret::parse(&secret)).transpose()?;
        let key = |name, key: Option<String>| key.map(|key| ApiKey::parse(name, &key)).transpose();
        settings.api_key = key("API key", self.api_key.take())?;
        settings.worker_key = key("worker key", self.worker_key.take())?;
        let keyless = settings.api_key.is_none();
        let guard = BrowserGuard::new(keyless, &self.allowed_hosts, &self.allowed_origins);
        settings.guard = guard?;
        settings.guard.add_host(&self.host);
        Ok(())
    }
}

/// A running platform. It shuts down when it is dropped.
#[derive(Debug)]
pub struct Platform {
    addr: SocketAddr,
    registry: Arc<Registry>,
    servers: Mutex<Vec<JoinHandle<()>>>,
    closing: Closing,
}

impl Platform {
    /// Creates a builder for a platform with the documented limits, on a free loopback port.
    pub fn builder() -> Builder {
        Builder {
            host: "127.0.0.1".to_owned(),
            port: 0,
            endpoint: "local".to_owned(),
            settings: Settings::default(),
            api_key: None,
            worker_key: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            private_webhooks: None,
            schema: None,
            webhook_secret: None,
            faults: None,
        }
    }

    /// Returns the address that the platform listens on; of several, the first.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the platform's URL, `http://…`. The API of the default endpoint is directly below it.
    pub fn url(&self) -> String {
        let addr = match self.addr {
            // A platform that listens on all addresses is reachable by loopback.
            addr if addr.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], addr.port())),
            addr => addr,
        };
        format!("http://{addr}")
    }

    /// Returns the base URL for client SDKs, `http://…/v2`.
    pub fn client_url(&self) -> String {
        format!("{}/v2", self.url())
    }

    /// Returns the URL of an endpoint, `http://…/v2/<id>`.
    pub fn endpoint_url(&self, id: &str) -> String {
        format!("{}/{id}", self.client_url())
    }

    /// Returns the `RUNPOD_*` variables that connect a worker with this id to the default endpoint.
    pub fn worker_env(&self, worker_id: &str) -> Vec<(&'static str, String)> {
        let id = self.registry.default_id();
        let base = self.endpoint_url(id);
        let settings = self.registry.settings();
        let interval = settings.ping_interval;
        let key = settings.key_of_workers().map_or("local", ApiKey::as_str);
        vec![
            (env::GET_JOB, format!("{base}/job-take/$ID?gpu=local")),
            (
                env::POST_OUTPUT,
                format!("{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=local"),
            ),
            (
                env::POST_STREAM,
                format!("{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=local"),
            ),
            (env::PING, format!("{base}/ping/$RUNPOD_POD_ID")),
            (env::PING_INTERVAL, interval.as_millis().to_string()),
            (env::API_KEY, key.to_owned()),
            (env::ENDPOINT_ID, id.to_owned()),
            (env::POD_ID, worker_id.to_owned()),
            // A developer's machine need not meet the requirements for Runpod's machines.
            (env::SKIP_AUTO_SYSTEM_CHECKS, "true".to_owned()),
            (env::SKIP_GPU_CHECK, "true".to_owned()),
        ]
    }

    /// Queues a job at the default endpoint, like `/run`, and returns its id.
    ///
    /// # Errors
    /// Returns an error if the request is invalid, or if the endpoint is full.
    pub fn submit(&self, request: RunRequest) -> Result<String, Error> {
        self.submit_as(None, request)
    }

    /// Queues a job like [`submit`](Self::submit), under an id of the caller's choice, and returns the id.
    ///
    /// # Errors
    /// Returns an error if the id or the request is invalid, if the endpoint is full, or if it has a job with this id.
    pub fn submit_with_id(&self, id: &str, request: RunRequest) -> Result<String, Error> {
        self.submit_as(Some(id), request)
    }

    fn submit_as(&self, id: Option<&str>, request: RunRequest) -> Result<String, Error> {
        let handle = self.default_handle().map_err(refused)?;
        let mut submission = submission_of(request, false, handle.rules()).map_err(refused)?;
        if let Some(id) = id {
            // A worker ignores a job with another id.
            if id.is_empty() || id.len() > limits::JOB_ID {
                let most = limits::JOB_ID;
                return Err(Error::Refused(format!(
                    "invalid job id: expected 1 to {most} bytes"
                )));
            }
            submission.id = id.into();
        }
        let state = at_once(handle.endpoint().submit(submission));
        Ok(state.map_err(refused)?.id)
    }

    /// Replaces the schema of the default endpoint that [`Builder::schema`] set; `None` removes it.
    pub fn set_schema(&self, schema: Option<HandlerSchema>) {
        self.registry.set_schema(self.registry.default_id(), schema);
    }

    /// Returns the number of duplicate and late results at the default endpoint: posted after the job ended or was
    /// handed out to another worker. Such a result changes nothing.
    pub fn late_results(&self) -> u64 {
        let handle = self.default_handle();
        handle.map_or(0, |handle| handle.endpoint().late_results())
    }

    /// Moves the platform's clock forward. Everything that becomes due happens at once, so a test can see a result
    /// expire, a job time out, or a lost worker's job return to the queue without waiting.
    pub fn advance(&self, by: Duration) {
        self.registry.clock().advance(by);
    }

    /// Returns the status of a job of the default endpoint; `None` if it does not exist or has expired.
    pub fn status(&self, job_id: &str) -> Option<StatusResponse> {
        let handle = self.default_handle().ok()?;
        let job = at_once(handle.endpoint().job(job_id, Wanted::Output));
        Some(status(&job.ok()?))
    }

    /// Returns all events of a job of the default endpoint, from its submission on, no matter when this is called. The
    /// stream ends after [`JobEvent::Finished`], when the job is removed, or when the platform shuts down. Chunks
    /// remain available to `/stream`. If progress arrives faster than it is read, only the latest is returned.
    pub fn follow(&self, job_id: &str) -> impl Stream<Item = JobEvent> + Send + use<> {
        let handle = self.default_handle().ok();
        let events = handle.map(|handle| follow(handle, job_id.to_owned()));
        futures::StreamExt::flatten(futures::stream::iter(events))
    }

    /// Waits until a job of the default endpoint has ended, and returns its status; `None` if the job is removed or the
    /// platform shuts down before.
    pub async fn ended(&self, job_id: &str) -> Option<StatusResponse> {
        let mut events = pin!(self.follow(job_id));
        while let Some(event) = futures::StreamExt::next(&mut events).await {
            if let JobEvent::Finished(status) = event {
                return Some(status);
            }
        }
        None
    }

    /// Cancels a job of the default endpoint, like `/cancel`. A job that has already ended does not change.
    ///
    /// # Errors
    /// Returns an error if the job does not exist.
    pub fn cancel(&self, job_id: &str) -> Result<(), Error> {
        let handle = self.default_handle().map_err(refused)?;
        let cancelled = at_once(handle.endpoint().cancel(job_id));
        cancelled.map(|_| ()).map_err(refused)
    }

    /// Removes a worker of the default endpoint whose process has ended: requeues its jobs and removes it from `/health`
    /// and the console now, instead of when it has been silent for [`Rules::silence`]. A worker that still runs is added
    /// again by its next call.
    pub fn remove_worker(&self, worker_id: &str) {
        if let Ok(handle) = self.default_handle() {
            at_once(handle.endpoint().remove_worker(worker_id));
        }
    }

    /// Starts the shutdown: open polls are answered at once, and no new connections are accepted.
    pub fn close(&self) {
        self.closing.0.cancel();
    }

    /// Shuts the platform down, and waits up to 2 s for its connections to end.
    pub async fn shutdown(self) {
        let Self {
            servers, closing, ..
        } = self;
        drop(closing);
        let servers = servers.into_inner().unwrap_or_else(PoisonError::into_inner);
        let aborts: Vec<_> = servers.iter().map(JoinHandle::abort_handle).collect();
        let all = futures::future::join_all(servers);
        if tokio::time::timeout(LAST_ANSWERS, all).await.is_err() {
            aborts.iter().for_each(AbortHandle::abort);
        }
    }

    fn default_handle(&self) -> Result<Arc<EndpointHandle>, Refusal> {
        self.registry.get(self.registry.default_id())
    }
}

/// Returns the result of a call on the memory store, which never waits.
#[expect(
    clippy::expect_used,
    reason = "this file only calls the memory store, which never waits"
)]
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer
        .now_or_never()
        .expect("the memory store returns without waiting")
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        // Calls of the library do not count towards the rate limits.
        Refusal::Often(_) => Error::Refused("rate limit exceeded".to_owned()),
        Refusal::NotFound(why)
        | Refusal::Bad(why)
        | Refusal::Conflict(why)
        | Refusal::TooLarge(why)
        | Refusal::Full(why) => Error::Refused(why),
    }
}

/// Shuts the platform down on drop.
#[derive(Debug)]
struct Closing(CancellationToken);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
