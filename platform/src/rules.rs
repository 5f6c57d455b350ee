//! The rules of an endpoint, with the documented limits.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use podwork_protocol::limits;

use crate::error::Error;
use crate::units::{bytes, duration, durations};

/// What an endpoint allows, and how long it waits and keeps. The defaults are the documented limits.
///
/// ```
/// use std::time::Duration;
/// use podwork_platform::Rules;
///
/// let rules: Rules = "run_rate=0,chunk=64KB,ttl=1h,ttl_range=1s..7d,tries=5".parse()?;
/// assert_eq!(rules.run_rate, None);
/// assert_eq!(rules.ttl.default, Duration::from_secs(3600));
/// assert_eq!(rules.tries, 5);
/// # Ok::<(), podwork_platform::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rules {
    /// Largest request and result of `/run`, bytes; 10 MB.
    pub run_payload: usize,
    /// Largest request and result of `/runsync`, bytes; 20 MB.
    pub runsync_payload: usize,
    /// Largest stream chunk, bytes; 1 MB.
    pub chunk: usize,
    /// Most bytes of chunks that one job keeps; 64 MB.
    pub stream_buffer: usize,
    /// `/run` calls a second; 1000. `None`: any number.
    pub run_rate: Option<NonZeroU32>,
    /// `/runsync` calls a second; 2000. `None`: any number.
    pub runsync_rate: Option<NonZeroU32>,
    /// How long a result of `/run` is kept; 30 min.
    pub run_retention: Duration,
    /// How long a result of `/runsync` is kept; 60 s.
    pub runsync_retention: Duration,
    /// How long `/runsync` and `/status-sync` hold their answer back; 90 s, and 1 s to 5 min.
    pub wait: Span,
    /// How long a job may run; 10 min, and 5 s to 7 days.
    pub execution_timeout: Span,
    /// How long a job is there at all, from its submission; 24 h, and 10 s to 7 days.
    pub ttl: Span,
    /// How long a take or stop poll is held open while there is nothing for it; 25 s.
    pub poll_hold: Duration,
    /// How long `/stream` is held open while there is nothing new; 5 s, since clients give up on a call after 10 s.
    pub stream_hold: Duration,
    /// A worker not heard of for so long loses its jobs; 60 s, six intervals between heartbeats.
    pub silence: Duration,
    /// How often a job is handed out before it fails because its workers were lost; 3.
    pub tries: u32,
    /// Most workers that are given jobs at once; more are throttled. Any number, unless it is set.
    pub workers: usize,
    /// Most jobs, queued, running and kept together; 2,000,000.
    pub jobs: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            run_payload: limits::RUN_PAYLOAD,
            runsync_payload: limits::RUNSYNC_PAYLOAD,
            chunk: limits::CHUNK,
            stream_buffer: 64 * 1024 * 1024,
            run_rate: Some(limits::RUN_RATE),
            runsync_rate: Some(limits::RUNSYNC_RATE),
            run_retention: limits::RUN_RETENTION,
            runsync_retention: limits::RUNSYNC_RETENTION,
            wait: Span {
                default: limits::DEFAULT_WAIT,
                range: limits::MIN_WAIT..=limits::MAX_WAIT,
            },
            execution_timeout: Span {
                default: limits::DEFAULT_EXECUTION_TIMEOUT,
                range: limits::MIN_EXECUTION_TIMEOUT..=limits::MAX_POLICY,
            },
            ttl: Span {
                default: limits::DEFAULT_TTL,
                range: limits::MIN_TTL..=limits::MAX_POLICY,
            },
            poll_hold: Duration::from_secs(25),
            stream_hold: Duration::from_secs(5),
            silence: limits::DEFAULT_PING_INTERVAL * 6,
            tries: 3,
            workers: usize::MAX,
            jobs: 2_000_000,
        }
    }
}

impl FromStr for Rules {
    type Err = Error;

    /// Reads `name=value` pairs with commas between them, over the documented limits. Names are those of the fields;
    /// sizes are bytes or `10MB`, times `250ms`, `90s`, `5m`, `24h` or `7d`, rates calls a second, and 0 for any number.
    /// The range of `wait`, `execution_timeout` and `ttl` is `wait_range=1s..5m`.
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::default().with(text)
    }
}

impl Rules {
    /// These rules with some of them changed, written as for [`from_str`](Self::from_str).
    ///
    /// # Errors
    /// A pair that is no rule.
    pub fn with(mut self, text: &str) -> Result<Self, Error> {
        for pair in text.split(',').map(str::trim) {
            if !pair.is_empty() {
                self.set(pair).ok_or_else(|| Error::Rule(pair.to_owned()))?;
            }
        }
        Ok(self)
    }

    fn set(&mut self, pair: &str) -> Option<()> {
        let (name, value) = pair.split_once('=')?;
        match name {
            "run_payload" => self.run_payload = bytes(value)?,
            "runsync_payload" => self.runsync_payload = bytes(value)?,
            "chunk" => self.chunk = bytes(value)?,
            "stream_buffer" => self.stream_buffer = bytes(value)?,
            "run_rate" => self.run_rate = NonZeroU32::new(value.parse().ok()?),
            "runsync_rate" => self.runsync_rate = NonZeroU32::new(value.parse().ok()?),
            "run_retention" => self.run_retention = duration(value)?,
            "runsync_retention" => self.runsync_retention = duration(value)?,
            "wait" => self.wait.default = duration(value)?,
            "wait_range" => self.wait.range = durations(value)?,
            "execution_timeout" => self.execution_timeout.default = duration(value)?,
            "execution_timeout_range" => self.execution_timeout.range = durations(value)?,
            "ttl" => self.ttl.default = duration(value)?,
            "ttl_range" => self.ttl.range = durations(value)?,
            "poll_hold" => self.poll_hold = duration(value)?,
            "stream_hold" => self.stream_hold = duration(value)?,
            "silence" => self.silence = duration(value)?,
            "tries" => self.tries = value.parse().ok().filter(|tries| *tries > 0)?,
            "workers" => self.workers = value.parse().ok().filter(|workers| *workers > 0)?,
            "jobs" => self.jobs = value.parse().ok().filter(|jobs| *jobs > 0)?,
            _ => return None,
        }
        Some(())
    }

    /// Largest request and result.
    pub(crate) fn payload(&self, sync: bool) -> usize {
        if sync {
            self.runsync_payload
        } else {
            self.run_payload
        }
    }

    /// How long a result is kept.
    pub(crate) fn retention(&self, sync: bool) -> Duration {
        if sync {
            self.runsync_retention
        } else {
            self.run_retention
        }
    }
}

/// A time that a client may choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What it is when the client does not say.
    pub default: Duration,
    /// What it may be.
    pub range: RangeInclusive<Duration>,
}

impl Span {
    /// What of the range is nearest to what the client asks for.
    pub(crate) fn nearest(&self, asked: Option<Duration>) -> Duration {
        asked
            .unwrap_or(self.default)
            .clamp(*self.range.start(), *self.range.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let rules: Rules = "run_rate=0, chunk=2KB,wait_range=10ms..2s,silence=1.5s,workers=1"
            .parse()
            .unwrap();
        let expected = Rules {
            run_rate: None,
            chunk: 2048,
            wait: Span {
                default: limits::DEFAULT_WAIT,
                range: Duration::from_millis(10)..=Duration::from_secs(2),
            },
            silence: Duration::from_millis(1500),
            workers: 1,
            ..Rules::default()
        };
        assert_eq!(rules, expected);
        assert_eq!("".parse::<Rules>().unwrap(), Rules::default());
        for bad in [
            "run_rate",
            "run_rate=-1",
            "ttl=5",
            "tries=0",
            "x=1",
            "wait_range=2s..1s",
        ] {
            let said = bad.parse::<Rules>().unwrap_err().to_string();
            assert!(said.starts_with(&format!("`{bad}` is no rule")), "{said}");
        }
    }
}
