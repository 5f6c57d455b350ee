//! Figures, as Prometheus counts them.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::config::{given, whole_number};
use crate::error::{Error, JobOutcome};

use super::{About, BatchReason, Load, PostFate, PostKind, TakeResult};

/// Where figures are served, on all IPv4 addresses.
pub(crate) const PORT: &str = "PODWORK_METRICS_PORT";
/// All names begin with it.
const PREFIX: &str = "podwork";

/// Whether and where figures are served.
#[derive(Default)]
pub(crate) struct MetricsSettings {
    listen: Option<Listen>,
    /// The user's own are in it.
    registry: Registry,
}

#[derive(Debug)]
enum Listen {
    Port(u16),
    On(TcpListener),
}

impl fmt::Debug for MetricsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MetricsSettings")
            .field(&self.listen)
            .finish()
    }
}

impl MetricsSettings {
    pub(crate) fn port(&mut self, port: u16) {
        self.listen = Some(Listen::Port(port));
    }

    pub(crate) fn on(&mut self, listener: TcpListener) {
        self.listen = Some(Listen::On(listener));
    }

    pub(crate) fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    pub(super) fn read(&mut self, lookup: impl Fn(&str) -> Option<String>) -> Result<(), Error> {
        if let Some(port) = whole_number(PORT, given(lookup, PORT), "a port number")? {
            self.port(port);
        }
        Ok(())
    }

    /// Listens, if figures are asked for.
    pub(super) fn start(
        self,
        about: &About,
        load: impl Fn() -> Load + Send + Sync + 'static,
    ) -> Result<Option<(TcpListener, Arc<Registry>, Figures)>, Error> {
        let Some(listen) = self.listen else {
            return Ok(None);
        };
        let listener = match listen {
            Listen::On(listener) => listener,
            Listen::Port(port) => {
                let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
                TcpListener::bind(addr).map_err(|source| Error::Metrics { addr, source })?
            }
        };
        let mut registry = self.registry;
        let own = registry.sub_registry_with_prefix(PREFIX);
        let figures = Figures::new(own, about);
        own.register_collector(Box::new(Loaded(load)));
        Ok(Some((listener, Arc::new(registry), figures)))
    }
}

impl TakeResult {
    const ALL: [Self; 3] = [Self::Jobs, Self::Empty, Self::Error];

    fn label(self) -> Label {
        let value = match self {
            Self::Jobs => "jobs",
            Self::Empty => "empty",
            Self::Error => "error",
        };
        [("answer", value)]
    }
}

impl PostKind {
    const ALL: [Self; 3] = [Self::Result, Self::Chunk, Self::Progress];

    fn name(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Chunk => "chunk",
            Self::Progress => "progress",
        }
    }
}

impl BatchReason {
    const ALL: [Self; 3] = [Self::Full, Self::Waited, Self::Draining];

    fn label(self) -> Label {
        let value = match self {
            Self::Full => "full",
            Self::Waited => "waited",
            Self::Draining => "draining",
        };
        [("reason", value)]
    }
}

impl PostFate {
    const ALL: [Self; 4] = [Self::Accepted, Self::Refused, Self::GivenUp, Self::Outdated];

    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::GivenUp => "given_up",
            Self::Outdated => "outdated",
        }
    }
}

/// Names and values, of which there are few.
type Labels<const N: usize> = [(&'static str, &'static str); N];
type Label = Labels<1>;

/// What is counted.
#[derive(Debug)]
pub(super) struct Figures {
    jobs: Family<Label, Counter>,
    takes: Family<Label, Counter>,
    take: Family<Label, Histogram>,
    handler: Histogram,
    delivery: Histogram,
    posts: Family<Labels<2>, Counter>,
    retries: Family<Label, Counter>,
    batches: Family<Label, Counter>,
    batch: Histogram,
}

/// From 1 ms: what a handler takes, and a delivery, which may be tried for a quarter of an hour.
fn to_17_minutes() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 21))
}

/// From 1 ms: what a call of the platform takes, which may hold it open.
fn to_131_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 18))
}

impl Figures {
    fn new(registry: &mut Registry, about: &About) -> Self {
        let figures = Self {
            jobs: Family::default(),
            takes: Family::default(),
            take: Family::new_with_constructor(to_131_seconds),
            handler: to_17_minutes(),
            delivery: to_17_minutes(),
            posts: Family::default(),
            retries: Family::default(),
            batches: Family::default(),
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
        };
        let info = Info::new([
            ("version", crate::version::VERSION.to_owned()),
            ("handler", about.handler.to_owned()),
        ]);
        registry.register("build", "What this worker was built of", info);
        registry.register(
            "jobs",
            "Jobs that were taken and are done with",
            figures.jobs.clone(),
        );
        registry.register(
            "takes",
            "Asks for jobs that were answered, or failed",
            figures.takes.clone(),
        );
        registry.register_with_unit(
            "take_duration",
            "How long an ask for jobs took, which the platform may hold open",
            Unit::Seconds,
            figures.take.clone(),
        );
        registry.register_with_unit(
            "handler_duration",
            "How long a job's handler took",
            Unit::Seconds,
            figures.handler.clone(),
        );
        registry.register_with_unit(
            "delivery_duration",
            "From the handler's end until the result was accepted",
            Unit::Seconds,
            figures.delivery.clone(),
        );
        registry.register("posts", "Posts that are done with", figures.posts.clone());
        registry.register(
            "post_retries",
            "Tries of posts after the first",
            figures.retries.clone(),
        );
        if about.batches {
            registry.register(
                "batches",
                "Batches that went to the handler",
                figures.batches.clone(),
            );
            registry.register("batch_jobs", "Jobs of a batch", figures.batch.clone());
        }
        figures.begin_at_nought();
        figures
    }

    /// A series that is there from the start shows its first event, too.
    fn begin_at_nought(&self) {
        for outcome in JobOutcome::ALL {
            drop(self.jobs.get_or_create(&[("outcome", outcome.label())]));
        }
        for answer in TakeResult::ALL {
            drop(self.takes.get_or_create(&answer.label()));
            drop(self.take.get_or_create(&answer.label()));
        }
        for reason in BatchReason::ALL {
            drop(self.batches.get_or_create(&reason.label()));
        }
        for kind in PostKind::ALL {
            drop(self.retries.get_or_create(&[("kind", kind.name())]));
            // Progress alone is ever outdated.
            let can_be =
                |posted: &PostFate| *posted != PostFate::Outdated || kind == PostKind::Progress;
            for posted in PostFate::ALL.into_iter().filter(can_be) {
                drop(self.posts.get_or_create(&post(kind, posted)));
            }
        }
    }

    pub(super) fn take(&self, answer: TakeResult, took: Duration) {
        let label = answer.label();
        self.takes.get_or_create(&label).inc();
        self.take.get_or_create(&label).observe(took.as_secs_f64());
    }

    pub(super) fn batch(&self, jobs: usize, reason: BatchReason) {
        self.batches.get_or_create(&reason.label()).inc();
        self.batch.observe(to_f64(jobs));
    }

    pub(super) fn ran(&self, took: Duration) {
        self.handler.observe(took.as_secs_f64());
    }

    pub(super) fn retried(&self, kind: PostKind) {
        self.retries.get_or_create(&[("kind", kind.name())]).inc();
    }

    pub(super) fn posted(&self, kind: PostKind, posted: PostFate) {
        self.posts.get_or_create(&post(kind, posted)).inc();
    }

    pub(super) fn settled(&self, outcome: JobOutcome, delivering: Option<Duration>) {
        self.jobs
            .get_or_create(&[("outcome", outcome.label())])
            .inc();
        // What was never accepted took no time that could be compared.
        if let Some(delivering) = delivering
            && !matches!(outcome, JobOutcome::Refused | JobOutcome::Cancelled)
        {
            self.delivery.observe(delivering.as_secs_f64());
        }
    }
}

fn post(kind: PostKind, posted: PostFate) -> Labels<2> {
    [("kind", kind.name()), ("result", posted.name())]
}

#[expect(clippy::cast_precision_loss, reason = "there are not so many jobs")]
fn to_f64(jobs: usize) -> f64 {
    jobs as f64
}

/// What is at hand when it is asked.
struct Loaded<F>(F);

impl<F> fmt::Debug for Loaded<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loaded")
    }
}

impl<F: Fn() -> Load + Send + Sync + 'static> Collector for Loaded<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Load {
            limit,
            running,
            undelivered,
            bytes,
        } = (self.0)();
        let mut gauge = |name, help, unit: Option<&Unit>, value: usize| {
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            value.encode(metric)
        };
        gauge(
            "concurrency_limit",
            "Most jobs that may run at once.",
            None,
            limit,
        )?;
        gauge("jobs_running", "Jobs that are being run.", None, running)?;
        gauge(
            "jobs_undelivered",
            "Ended jobs whose last posts are yet to be accepted.",
            None,
            undelivered,
        )?;
        gauge(
            "undelivered",
            "Bytes of ended jobs that are yet to be posted.",
            Some(&Unit::Bytes),
            bytes,
        )
    }
}
