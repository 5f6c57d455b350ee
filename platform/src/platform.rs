//! The platform as a value: started, asked, shut down.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{FutureExt as _, Stream};
use podwork_protocol::client::{RunRequest, StatusResponse};
use podwork_protocol::{HandlerSchema, env};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::answers::status;
use crate::connections::serve;
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

/// How long connections may take to end when the platform shuts down.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A platform to be started.
#[derive(Debug)]
#[must_use = "a platform does nothing until it is started"]
pub struct Builder {
    host: String,
    port: u16,
    endpoint: String,
    settings: Settings,
    /// The default endpoint's.
    schema: Option<HandlerSchema>,
    webhook_secret: Option<String>,
    faults: Option<Faults>,
}

impl Builder {
    /// Where to listen; `127.0.0.1` on a free port unless it is set. Port 0 is a free port.
    pub fn bind(mut self, host: &str, port: u16) -> Self {
        (self.host, self.port) = (host.to_owned(), port);
        self
    }

    /// Id of the endpoint whose operations answer at the root too; `local` unless it is set.
    pub fn endpoint(mut self, id: &str) -> Self {
        id.clone_into(&mut self.endpoint);
        self
    }

    /// The rules of every endpoint that has none of its own; the documented ones unless they are set.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.settings.rules = rules;
        self
    }

    /// An endpoint's own rules.
    pub fn endpoint_rules(mut self, id: &str, rules: Rules) -> Self {
        self.settings.own_rules.insert(id.to_owned(), rules);
        self
    }

    /// What workers are told to ping at; 10 s unless it is set. How long a worker may be silent is a
    /// [rule](Rules::silence).
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.settings.ping_interval = interval;
        self
    }

    /// The key that clients have to show, as `Authorization: Bearer <key>` or alone; none unless it is set. Workers have
    /// to show it too, unless they have a [key of their own](Self::worker_key).
    pub fn api_key(mut self, key: &str) -> Self {
        self.settings.api_key = Some(key.to_owned());
        self
    }

    /// The key that workers have to show, which [`Platform::worker_env`] tells them; the clients' unless it is set.
    pub fn worker_key(mut self, key: &str) -> Self {
        self.settings.worker_key = Some(key.to_owned());
        self
    }

    /// The secret that webhook calls are signed with, so that a receiver can tell them from others: `whsec_` and base64, or
    /// any other text. Default: calls are not signed. The signature is that of
    /// [Standard Webhooks](https://www.standardwebhooks.com): headers `webhook-id`, `webhook-timestamp` (Unix seconds) and
    /// `webhook-signature`, which is `v1,` and the base64 of the HMAC-SHA256 over `<id>.<timestamp>.<body>`.
    pub fn webhook_secret(mut self, secret: &str) -> Self {
        self.webhook_secret = Some(secret.to_owned());
        self
    }

    /// Has the platform misbehave, for tests of what has to bear it.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = Some(faults);
        self
    }

    /// A request body that the console's form begins with, as JSON text.
    pub fn example(mut self, request: &str) -> Self {
        self.settings.example = Some(request.to_owned());
        self
    }

    /// What the default endpoint takes and gives, for its pages and its description to show. Nothing is refused by it: that
    /// is the worker's part.
    pub fn schema(mut self, schema: HandlerSchema) -> Self {
        self.schema = Some(schema);
        self
    }

    /// … of another endpoint.
    pub fn endpoint_schema(mut self, id: &str, schema: HandlerSchema) -> Self {
        self.settings.schemas.insert(id.to_owned(), schema);
        self
    }

    /// Starts it, on the caller's tokio runtime.
    ///
    /// # Errors
    /// The address cannot be listened on, the endpoint's id cannot stand in a URL, or the webhook secret cannot be read.
    pub async fn start(mut self) -> Result<Platform, Error> {
        if let Some(schema) = self.schema.take() {
            self.settings.schemas.insert(self.endpoint.clone(), schema);
        }
        self.settings.webhook_secret = match self.webhook_secret.take() {
            Some(secret) => Some(Secret::parse(&secret)?),
            None => None,
        };
        let settings = &self.settings;
        let own = settings.own_rules.keys().chain(settings.schemas.keys());
        for id in own.chain([&self.endpoint]) {
            if !is_endpoint_id(id) {
                return Err(Error::EndpointId(id.clone()));
            }
        }
        let closing = CancellationToken::new();
        let registry = Arc::new(Registry::new(self.settings, self.endpoint, closing.clone()));
        let router = router(Arc::clone(&registry), self.faults);
        let (addr, server) = serve(&self.host, self.port, router, closing.clone()).await?;
        Ok(Platform {
            addr,
            registry,
            servers: Mutex::new(vec![server]),
            closing: Closing(closing),
        })
    }
}

/// A platform that runs. It ends when it is dropped.
#[derive(Debug)]
pub struct Platform {
    addr: SocketAddr,
    registry: Arc<Registry>,
    servers: Mutex<Vec<JoinHandle<()>>>,
    closing: Closing,
}

impl Platform {
    /// A platform with the documented limits, on a free loopback port.
    pub fn builder() -> Builder {
        Builder {
            host: "127.0.0.1".to_owned(),
            port: 0,
            endpoint: "local".to_owned(),
            settings: Settings::default(),
            schema: None,
            webhook_secret: None,
            faults: None,
        }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://…` of the platform; the operations of the default endpoint answer right below it.
    pub fn url(&self) -> String {
        let addr = match self.addr {
            // An address that listens everywhere is reached here by loopback.
            addr if addr.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], addr.port())),
            addr => addr,
        };
        format!("http://{addr}")
    }

    /// `http://…/v2`: what client SDKs take as their base URL.
    pub fn client_url(&self) -> String {
        format!("{}/v2", self.url())
    }

    /// `http://…/v2/<id>` of an endpoint.
    pub fn endpoint_url(&self, id: &str) -> String {
        format!("{}/{id}", self.client_url())
    }

    /// The `RUNPOD_*` variables by which a worker of this id finds the default endpoint.
    pub fn worker_env(&self, worker_id: &str) -> Vec<(&'static str, String)> {
        let id = self.registry.default_id();
        let base = self.endpoint_url(id);
        let settings = self.registry.settings();
        let interval = settings.ping_interval;
        let key = settings.worker_key.as_ref().or(settings.api_key.as_ref());
        let key = key.map_or("local", String::as_str);
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
            // A developer's machine need not pass for one of the platform's.
            (env::SKIP_AUTO_SYSTEM_CHECKS, "true".to_owned()),
            (env::SKIP_GPU_CHECK, "true".to_owned()),
        ]
    }

    /// Queues a job at the default endpoint, as `/run` does; its id.
    ///
    /// # Errors
    /// The request's policy is out of range, or the queue is full.
    pub fn submit(&self, request: RunRequest) -> Result<String, Error> {
        let handle = self.default_handle().map_err(refused)?;
        let submission = submission_of(request, false, handle.rules()).map_err(refused)?;
        let state = at_once(handle.endpoint().submit(submission));
        Ok(state.map_err(refused)?.id)
    }

    /// Says what the default endpoint takes and gives, in place of what [`Builder::schema`] said; `None`: it is not known.
    pub fn set_schema(&self, schema: Option<HandlerSchema>) {
        self.registry.set_schema(self.registry.default_id(), schema);
    }

    /// Results that workers of the default endpoint posted again, or after their job had ended or gone to another
    /// worker; such a result changes nothing.
    pub fn late_results(&self) -> u64 {
        let handle = self.default_handle();
        handle.map_or(0, |handle| handle.endpoint().late_results())
    }

    /// Sets the platform's clock ahead: what is due by then happens at once. So a test sees a result expire, a job time
    /// out or a lost worker's job come back without waiting for it.
    pub fn advance(&self, by: Duration) {
        self.registry.clock().advance(by);
    }

    /// How a job of the default endpoint stands; `None` when it is not, or no more, there.
    pub fn status(&self, job_id: &str) -> Option<StatusResponse> {
        let handle = self.default_handle().ok()?;
        let job = at_once(handle.endpoint().job(job_id, Wanted::Output));
        Some(status(&job.ok()?))
    }

    /// All that happens to a job of the default endpoint, from its submission on, whenever this is called: the stream
    /// ends after [`JobEvent::Finished`], or when the job or the platform is gone. Chunks stay there for `/stream`.
    /// When progress comes faster than it is read, the latest wins.
    pub fn follow(&self, job_id: &str) -> impl Stream<Item = JobEvent> + Send + use<> {
        let handle = self.default_handle().ok();
        let events = handle.map(|handle| follow(handle, job_id.to_owned()));
        futures::StreamExt::flatten(futures::stream::iter(events))
    }

    /// How a job of the default endpoint ended, once it has; `None` when the job or the platform is gone.
    pub async fn ended(&self, job_id: &str) -> Option<StatusResponse> {
        let mut events = pin!(self.follow(job_id));
        while let Some(event) = futures::StreamExt::next(&mut events).await {
            if let JobEvent::Finished(status) = event {
                return Some(status);
            }
        }
        None
    }

    /// Cancels a job of the default endpoint, as `/cancel` does. One that has ended stays as it is.
    ///
    /// # Errors
    /// There is no such job.
    pub fn cancel(&self, job_id: &str) -> Result<(), Error> {
        let handle = self.default_handle().map_err(refused)?;
        let cancelled = at_once(handle.endpoint().cancel(job_id));
        cancelled.map(|_| ()).map_err(refused)
    }

    /// Begins to end it: open polls are answered at once, and no new connections are accepted.
    pub fn close(&self) {
        self.closing.0.cancel();
    }

    /// Ends it, and waits until its connections have ended too, for 2 s at most.
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

/// Waits for the memory store, which answers at once.
#[expect(
    clippy::expect_used,
    reason = "this file's calls go to the memory store alone"
)]
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer
        .now_or_never()
        .expect("the memory store answers at once")
}

fn refused(refusal: Refusal) -> Error {
    match refusal {
        // Calls from within are not counted against the rate limits.
        Refusal::Often(_) => Error::Refused("too often".to_owned()),
        Refusal::NotFound(why)
        | Refusal::Bad(why)
        | Refusal::Conflict(why)
        | Refusal::TooLarge(why)
        | Refusal::Full(why) => Error::Refused(why),
    }
}

/// Ends the platform when it is dropped.
#[derive(Debug)]
struct Closing(CancellationToken);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
