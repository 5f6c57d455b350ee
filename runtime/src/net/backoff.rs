//! The delays between retries.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// The maximum delay that a `Retry-After` header can impose.
const LONGEST_ASKED: Duration = Duration::from_mins(1);

/// An endless sequence of delays that grow from `first` to `longest`, with jitter.
#[derive(Debug)]
pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    delays: backon::ExponentialBackoff,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter();
        Self {
            builder,
            delays: builder.build(),
        }
    }

    /// Returns the next delay: the longer of its own and the one that the server `asked` for, which is limited. A server
    /// cannot ask for less than its own, because `Retry-After: 0` would then cause a flood of calls.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let own = self.delays.next().unwrap_or_default();
        asked.map_or(own, |asked| asked.min(LONGEST_ASKED).max(own))
    }

    /// Starts again with the first delay. Call it after a success.
    pub(crate) fn reset(&mut self) {
        self.delays = self.builder.build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(3));
        let mut backoff = Backoff::new(first, longest);
        let delays: Vec<_> = (0..100).map(|_| backoff.next(None)).collect();
        assert!(delays[0] >= first && delays[0] <= first * 2);
        assert!(delays[99] >= longest && delays[99] <= longest * 2);
        backoff.reset();
        assert!(backoff.next(None) <= first * 2);
    }

    #[test]
    fn a_delay_that_the_platform_requests_is_honoured_up_to_a_limit() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_secs(1));
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(backoff.next(asked(7)), Duration::from_secs(7));
        assert_eq!(backoff.next(asked(86_400)), LONGEST_ASKED);
    }

    #[test]
    fn a_requested_delay_of_zero_does_not_shorten_the_backoff() {
        let first = Duration::from_millis(100);
        let mut backoff = Backoff::new(first, Duration::from_secs(1));
        let delays: Vec<_> = (0..20)
            .map(|_| backoff.next(Some(Duration::ZERO)))
            .collect();
        assert!(delays.iter().all(|delay| *delay >= first), "{delays:?}");
        assert!(delays[19] >= Duration::from_secs(1), "{delays:?}");
    }
}
