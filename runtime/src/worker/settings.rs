//! The settings of the builder, except the handler's state.

use std::time::Duration;

#[cfg(all(feature = "cache", unix))]
use crate::cache::VolumeCache;
use crate::health::HealthCheck;
use crate::health::fitness::FitnessCheck;
use crate::run::batches::BatchOverrides;
use crate::run::job::JobSettings;
use crate::take::Concurrency;
#[cfg(feature = "local")]
use crate::take::Fixed;
use crate::telemetry::TelemetrySettings;

/// The builder's settings.
pub(crate) struct WorkerSettings {
    /// The concurrency. `None`: 1.
    pub(crate) concurrency: Option<Box<dyn Concurrency>>,
    pub(crate) job: JobSettings,
    pub(crate) batch: BatchOverrides,
    /// Error results contain the host name and the causes.
    pub(crate) error_details: bool,
    pub(crate) grace: Duration,
    pub(crate) delivery_deadline: Duration,
    /// The user's fitness checks. `None` disables all checks, the built-in ones included.
    pub(crate) fitness: Option<Vec<FitnessCheck>>,
    pub(crate) health: Option<HealthCheck>,
    pub(crate) health_limit: Duration,
    pub(crate) max_failures: Option<usize>,
    pub(crate) telemetry: TelemetrySettings,
    #[cfg(all(feature = "cache", unix))]
    pub(crate) cache: Option<VolumeCache>,
}

#[cfg(feature = "local")]
impl WorkerSettings {
    /// Fixes the concurrency at `jobs`, whatever the builder has set.
    pub(crate) fn fix_concurrency(&mut self, jobs: usize) {
        self.concurrency = Some(Box::new(Fixed(jobs)));
    }
}
