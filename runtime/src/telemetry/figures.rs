//! The worker's metrics, in the format of Prometheus.

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

/// The variable with the port for metrics, which are served on all IPv4 addresses.
pub(crate) const PORT: &str = "PODWORK_METRICS_PORT";
/// The prefix of all metric names.
const PREFIX: &str = "podwork";

/// The settings for metrics: the address to serve them on, if any, and the registry.
#[derive(Default)]
pub(crate) struct MetricsSettings {
    listen: Option<Listen>,
    /// The registry, which contains the user's own metrics.
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

    /// Starts to listen, if metrics are enabled.
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

/// Names and values of labels, both from small fixed sets.
type Labels<const N: usize> = [(&'static str, &'static str); N];
type Label = Labels<1>;

/// The metrics of the worker.
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

/// Returns a histogram from 1 ms to 17 minutes, for handlers and deliveries: a delivery may be retried for 15 minutes.
fn to_17_minutes() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 21))
}

/// Returns a histogram from 1 ms to 131 seconds, for polls, which the platform may hold open.
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
        registry.register("build", "Version and handler of this worker", info);
        registry.register(
            "jobs",
            "Jobs that have ended, by outcome",
            figures.jobs.clone(),
        );
        registry.register(
            "takes",
            "Polls for jobs that were answered or failed",
            figures.takes.clone(),
        );
        registry.register_with_unit(
            "take_duration",
            "Duration of a poll for jobs, which the platform may hold open",
            Unit::Seconds,
            figures.take.clone(),
        );
        registry.register_with_unit(
            "handler_duration",
            "Run time of a job's handler",
            Unit::Seconds,
            figures.handler.clone(),
        );
        registry.register_with_unit(
            "delivery_duration",
            "Time from the end of the handler until the result was accepted",
            Unit::Seconds,
            figures.delivery.clone(),
        );
        registry.register("posts", "Finished posts by result", figures.posts.clone());
        registry.register(
            "post_retries",
            "Retries of posts to the platform",
            figures.retries.clone(),
        );
        if about.batches {
            registry.register(
                "batches",
                "Batches that went to the handler, by reason",
                figures.batches.clone(),
            );
            registry.register("batch_jobs", "Jobs per batch", figures.batch.clone());
        }
        figures.begin_at_nought();
        figures
    }

    /// Creates all series at 0: if a series exists from the start, its first event shows as an increase.
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
            // Only progress can become outdated.
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
        // A delivery that was never accepted has no comparable duration.
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

#[expect(clippy::cast_precision_loss, reason = "batch sizes are below 2^53")]
fn to_f64(jobs: usize) -> f64 {
    jobs as f64
}

/// A collector that reads the load at each scrape.
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
            "Maximum number of jobs that may run at once.",
            None,
            limit,
        )?;
        gauge("jobs_running", "Jobs that are running.", None, running)?;
        gauge(
            "jobs_undelivered",
            "Ended jobs whose last posts are not accepted yet.",
            None,
            undelivered,
        )?;
        gauge(
            "undelivered",
            "Bytes of ended jobs that are not posted yet.",
            Some(&Unit::Bytes),
            bytes,
        )
    }
}
