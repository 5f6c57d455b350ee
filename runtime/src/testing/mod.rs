//! Test support: runs a handler as a single job without a network ([`TestJob`]), or in a whole worker on a local
//! platform ([`TestWorker`]).

#[cfg(feature = "local")]
mod worker;

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "local")]
pub use podwork_platform::{Builder as PlatformBuilder, Faults, Platform, Rules};
#[cfg(feature = "local")]
pub use worker::TestWorker;

use podwork_protocol::RawValue;
use podwork_protocol::worker::Job;
use serde_json::Value;

use crate::delivery::outbox::{Message, Outbox};
use crate::error::HandlerError;
use crate::error::panics;
use crate::handler::Handler;
use crate::jobs::{JobRules, Jobs};
use crate::net::tls::install_default_provider;
use crate::renamed::renamed;
use crate::run::bound::BoundHandler;
use crate::run::job::{self, JobSettings, Runner};
use crate::telemetry::{TakeResult, Telemetry};

/// A job for a test. It takes the same path through the runtime as a job from the platform, except for the network. A
/// handler that takes a [`Batch`](crate::Batch) receives a batch of this job alone.
///
/// ```
/// use podwork::testing::TestJob;
/// use podwork::{Context, handler};
/// use serde_json::json;
///
/// #[handler]
/// async fn greet(name: String, cx: Context) -> String {
///     cx.progress(50);
///     format!("Hello, {name}!")
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let job = TestJob::new(json!("Ada")).run::<greet>().await;
/// assert_eq!(job.result.unwrap(), json!("Hello, Ada!"));
/// assert_eq!(job.progress, [json!(50)]);
/// # });
/// ```
#[derive(Debug)]
#[must_use = "a job does nothing until it is run"]
pub struct TestJob<S = ()> {
    job: Job,
    state: S,
    settings: JobSettings,
}

/// The outcome of a test job.
#[derive(Debug)]
#[non_exhaustive]
pub struct Tested {
    /// The chunks that a streaming handler yielded, in order.
    pub outputs: Vec<Value>,
    /// All progress updates, in order. (On the platform, a newer update replaces one that is still in the outbox.)
    pub progress: Vec<Value>,
    /// The output or the error. The output of a streaming handler is an empty list, or the list of all chunks if it
    /// [aggregates](TestJob::aggregate_stream).
    pub result: Result<Value, HandlerError>,
    /// The job asked for the worker's replacement.
    pub refresh: bool,
}

impl TestJob {
    /// Creates a job with this input, for a handler without state.
    pub fn new(input: Value) -> Self {
        Self {
            job: Job::new("test", raw(&input)),
            state: (),
            settings: JobSettings::default(),
        }
    }

    /// Sets the handler's state.
    pub fn state<S>(self, state: S) -> TestJob<S> {
        TestJob {
            job: self.job,
            state,
            settings: self.settings,
        }
    }
}

impl<S: Send + Sync + 'static> TestJob<S> {
    /// Adds a member that the platform would send next to `id` and `input`.
    pub fn extra(mut self, name: &str, value: Value) -> Self {
        self.job.extra.insert(name.to_owned(), value);
        self
    }

    /// Sets whether the output of a streaming handler repeats all its chunks. Default: `false`.
    pub fn aggregate_stream(mut self, aggregate: bool) -> Self {
        self.settings.aggregate = aggregate;
        self
    }

    renamed! {
        timeout => job_timeout,
    }

    /// Sets the maximum run time of the job, like [`Worker::job_timeout`](crate::Worker::job_timeout). Default: no
    /// limit.
    pub fn job_timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Sets environment variables of the worker. Only those for the limits of downloads and for the target of uploads
    /// have an effect.
    ///
    /// ```
    /// # use podwork::testing::TestJob;
    /// # use serde_json::json;
    /// // The server of this test listens on loopback.
    /// let job = TestJob::new(json!("http://127.0.0.1:8080/cat.png"))
    ///     .env([("RUNPOD_ALLOW_PRIVATE_DOWNLOAD_URLS", "true")]);
    /// # drop(job);
    /// ```
    ///
    /// # Panics
    /// Panics if the value of a variable is invalid.
    #[cfg(any(feature = "download", feature = "upload"))]
    pub fn env<K: AsRef<str>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables: Vec<_> = variables
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        let lookup = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| name.as_ref() == wanted);
            found.map(|(_, value)| value.clone())
        };
        #[cfg(feature = "download")]
        {
            let limits = crate::config::DownloadLimits::read(lookup);
            self.settings.download_limits = limits.unwrap_or_else(|error| panic!("{error}"));
        }
        #[cfg(feature = "upload")]
        {
            let uploads = crate::config::UploadSettings::read(lookup);
            self.settings.uploads = uploads.unwrap_or_else(|error| panic!("{error}")).into();
        }
        self
    }

    /// Sets whether an output that is too large is uploaded, like
    /// [`Worker::upload_large_results`](crate::Worker::upload_large_results). Default: `false`.
    #[cfg(feature = "upload")]
    pub fn upload_large_results(mut self, upload: bool) -> Self {
        self.settings.upload_large_results = upload;
        self
    }

    /// Runs the job and waits until it ends.
    #[expect(clippy::missing_panics_doc, reason = "no other job is in flight")]
    pub async fn run<H: Handler<State = S>>(self) -> Tested {
        panics::note();
        install_default_provider();
        let outbox = Arc::new(Outbox::keeping_all());
        let telemetry = Telemetry::default();
        let timing = telemetry.take().answered(TakeResult::Jobs);
        let taken = Jobs::new(JobRules::default()).take(&self.job.id, &telemetry, timing);
        let (slot, _delivery) = taken.expect("no other job is in flight");
        let handler = BoundHandler::<H> {
            state: Arc::new(self.state),
            batches: None,
        };
        let runner = Runner {
            handler: Box::new(handler),
            settings: self.settings,
        };
        let log = job::span(&self.job.id);
        let running = runner.run(self.job, &slot, &outbox, log);
        let collecting = async {
            let (mut outputs, mut progress) = (Vec::new(), Vec::new());
            loop {
                match outbox.next().await {
                    Message::Chunk(chunk) => outputs.push(parse(&chunk)),
                    Message::Progress(update) => progress.push(parse(&update)),
                    Message::Final(last) => {
                        return Tested {
                            outputs,
                            progress,
                            result: last.outcome.map(|output| parse(&output)),
                            refresh: last.refresh,
                        };
                    }
                }
            }
        };
        futures::future::join(running, collecting).await.1
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("a Value is always JSON")
}

fn parse(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).expect("the runtime encodes valid JSON")
}
