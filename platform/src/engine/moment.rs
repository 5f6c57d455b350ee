//! Points in time on the store's clock.

use std::num::NonZeroU64;
use std::ops::Add;
use std::time::Duration;

/// Milliseconds on the store's clock. Starts at 1, so that `Option<Moment>` has the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(NonZeroU64);

impl Moment {
    /// Returns the moment at this time after the clock's start.
    pub(crate) fn after_start(time: Duration) -> Self {
        Self(NonZeroU64::MIN) + time
    }

    /// Returns the time since the clock's start.
    pub(crate) fn since_start(self) -> Duration {
        Duration::from_millis(self.millis_since(Self(NonZeroU64::MIN)))
    }

    /// Returns the milliseconds since an earlier moment.
    pub(crate) fn millis_since(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get())
    }

    /// Returns the moment `millis` milliseconds later.
    pub(crate) fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        self.plus_millis(millis(time))
    }
}

/// Returns a duration in whole milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
