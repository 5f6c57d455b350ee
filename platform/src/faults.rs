//! Fault injection.

use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::units::{duration, durations};

/// Faults that the platform injects into calls of clients and workers. Rates are fractions of all calls, from 0 to 1.
/// The seed and the order of the calls decide which call gets which fault.
///
/// ```
/// use podwork_platform::Faults;
///
/// let faults: Faults = "errors=0.1,latency=20ms..200ms,blackout=2s/30s,seed=7".parse()?;
/// assert_eq!((faults.errors, faults.seed), (0.1, 7));
/// # Ok::<(), podwork_platform::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Seed of the random faults. Default: 0.
    pub seed: u64,
    /// Fraction of calls that are answered with 500, 502 or 503 and not executed. Default: 0.
    pub errors: f64,
    /// Fraction of calls that are answered with 429 and `Retry-After: 1` and not executed. Default: 0.
    pub throttled: f64,
    /// Fraction of calls whose connection breaks before they are executed. Default: 0.
    pub dropped: f64,
    /// Fraction of calls that are executed but whose connection breaks before the response. Default: 0.
    pub lost: f64,
    /// Range of the delay of each call. Default: no delay.
    pub latency: RangeInclusive<Duration>,
    /// Length and period of blackouts: all connections break during the first part of each period. Default: `None`.
    pub blackout: Option<(Duration, Duration)>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            seed: 0,
            errors: 0.0,
            throttled: 0.0,
            dropped: 0.0,
            lost: 0.0,
            latency: Duration::ZERO..=Duration::ZERO,
            blackout: None,
        }
    }
}

impl std::str::FromStr for Faults {
    type Err = crate::Error;

    /// Parses comma-separated `name=value` pairs: `errors`, `throttled`, `dropped` and `lost` (0 to 1), `latency`
    /// (`50ms` or `20ms..200ms`), `blackout` (`2s/30s`: 2 s of each 30 s) and `seed`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut faults = Self::default();
        for pair in text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
        {
            faults
                .set(pair)
                .ok_or_else(|| crate::Error::Fault(pair.to_owned()))?;
        }
        Ok(faults)
    }
}

impl Faults {
    /// Parses one `name=value` pair.
    fn set(&mut self, pair: &str) -> Option<()> {
        let (name, value) = pair.split_once('=')?;
        match name {
            "seed" => self.seed = value.parse().ok()?,
            "errors" => self.errors = share(value)?,
            "throttled" => self.throttled = share(value)?,
            "dropped" => self.dropped = share(value)?,
            "lost" => self.lost = share(value)?,
            "latency" => self.latency = durations(value)?,
            "blackout" => {
                let (lasts, every) = value.split_once('/')?;
                let (lasts, every) = (duration(lasts)?, duration(every)?);
                self.blackout = (lasts < every).then_some(Some((lasts, every)))?;
            }
            _ => return None,
        }
        Some(())
    }
}

fn share(text: &str) -> Option<f64> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
}

/// The outcome chosen for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Well,
    Error(u16),
    Throttled,
    Dropped,
    Lost,
}

/// Chooses the fault and the delay of each call.
#[derive(Debug)]
pub(crate) struct Decider {
    faults: Faults,
    random: Mutex<fastrand::Rng>,
    started: Instant,
}

impl Decider {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            random: Mutex::new(fastrand::Rng::with_seed(faults.seed)),
            faults,
            started: Instant::now(),
        }
    }

    /// Returns the delay and the outcome of the next call.
    pub(crate) fn next(&self) -> (Duration, Fate) {
        let faults = &self.faults;
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let (least, most) = (*faults.latency.start(), *faults.latency.end());
        let latency = least + most.saturating_sub(least).mul_f64(random.f64());
        let mut roll = random.f64();
        let status = random.choice([500, 502, 503]).unwrap_or(500);
        if let Some((lasts, every)) = faults.blackout {
            let into = self.started.elapsed().as_secs_f64() % every.as_secs_f64();
            if into < lasts.as_secs_f64() {
                return (Duration::ZERO, Fate::Dropped);
            }
        }
        for (share, fate) in [
            (faults.errors, Fate::Error(status)),
            (faults.throttled, Fate::Throttled),
            (faults.dropped, Fate::Dropped),
            (faults.lost, Fate::Lost),
        ] {
            if roll < share {
                return (latency, fate);
            }
            roll -= share;
        }
        (latency, Fate::Well)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let faults: Faults = "errors=0.25, throttled=1,latency=20ms..1.5s,blackout=2s/1m"
            .parse()
            .unwrap();
        assert_eq!((faults.errors, faults.throttled), (0.25, 1.0));
        assert_eq!(
            faults.latency,
            Duration::from_millis(20)..=Duration::from_millis(1500)
        );
        assert_eq!(
            faults.blackout,
            Some((Duration::from_secs(2), Duration::from_mins(1)))
        );
        assert_eq!("".parse::<Faults>().unwrap(), Faults::default());
        for bad in [
            "errors",
            "errors=2",
            "errors=NaN",
            "latency=5",
            "latency=2s..1s",
            "blackout=3s/2s",
            "x=1",
        ] {
            let said = bad.parse::<Faults>().unwrap_err().to_string();
            assert!(
                said.starts_with(&format!("invalid fault `{bad}`")),
                "{said}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_seed_determines_the_faults() {
        let faults: Faults = "errors=0.2,dropped=0.2,lost=0.2,latency=1ms..5ms,seed=3"
            .parse()
            .unwrap();
        let run = || -> Vec<_> {
            let decider = Decider::new(faults.clone());
            (0..100).map(|_| decider.next()).collect()
        };
        assert_eq!(run(), run());
        let well = run().iter().filter(|(_, fate)| *fate == Fate::Well).count();
        assert!((25..55).contains(&well), "{well}");
    }

    #[tokio::test(start_paused = true)]
    async fn blackouts_repeat() {
        let decider = Decider::new("blackout=2s/10s".parse().unwrap());
        let mut dark = Vec::new();
        for second in 0..20 {
            if decider.next().1 == Fate::Dropped {
                dark.push(second);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(dark, [0, 1, 10, 11]);
    }
}
