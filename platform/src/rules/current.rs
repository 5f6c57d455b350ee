//! The preset `current`: Runpod's documentation and behaviour since August 2026, where they differ from the defaults.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{CallRate, Rules};

/// The period of the rates.
const PERIOD: Duration = Duration::from_secs(10);

impl Rules {
    /// Returns the rules of Runpod's documentation and behaviour since August 2026: rates per 10 s that grow with the
    /// running workers, limits on concurrent calls, shorter pauses between webhook calls at first, and a single retry
    /// of a lost job, after 40 s.
    #[must_use]
    pub fn current() -> Self {
        Self::default().with_current()
    }

    /// Sets the rules of the preset, and keeps all others.
    pub(super) fn with_current(self) -> Self {
        Self {
            run_rate: rate(1000),
            run_concurrency: NonZeroU32::new(200),
            runsync_rate: rate(2000),
            runsync_concurrency: NonZeroU32::new(400),
            status_rate: rate(2000),
            status_concurrency: NonZeroU32::new(400),
            stream_rate: rate(2000),
            stream_concurrency: NonZeroU32::new(400),
            cancel_rate: rate(100),
            cancel_concurrency: NonZeroU32::new(20),
            purge_rate: rate(2),
            calls_per_worker: 50,
            silence: Duration::from_secs(40),
            tries: 2,
            lost_error: "job timed out after {retries} retries".to_owned(),
            webhook_pauses: vec![Duration::from_secs(5), Duration::from_secs(15)],
            ..self
        }
    }
}

fn rate(calls: u32) -> Option<CallRate> {
    let period = PERIOD;
    NonZeroU32::new(calls).map(|calls| CallRate { calls, period })
}
