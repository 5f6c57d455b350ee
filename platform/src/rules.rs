//! The rules of an endpoint. The defaults are Runpod's documented limits.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use podwork_protocol::limits;

use crate::error::Error;
use crate::units::{bytes, duration, durations};

/// The limits and times of an endpoint. The defaults are Runpod's documented limits.
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
    /// Maximum size of a request and of a result of `/run`, in bytes. Default: 10 MB.
    pub run_payload: usize,
    /// Maximum size of a request and of a result of `/runsync`, in bytes. Default: 20 MB.
    pub runsync_payload: usize,
    /// Maximum size of a stream chunk, in bytes. Default: 1 MB.
    pub chunk: usize,
    /// Maximum size of all stored chunks of one job, in bytes. Default: 64 MB.
    pub stream_buffer: usize,
    /// Maximum `/run` calls per second; `None` for no limit. Default: 1000.
    pub run_rate: Option<NonZeroU32>,
    /// Maximum `/runsync` calls per second; `None` for no limit. Default: 2000.
    pub runsync_rate: Option<NonZeroU32>,
    /// Time for which a result of `/run` is kept. Default: 30 min.
    pub run_retention: Duration,
    /// Time for which a result of `/runsync` is kept. Default: 60 s.
    pub runsync_retention: Duration,
    /// Time for which `/runsync` and `/status-sync` wait for the job's end. Default: 90 s; range: 1 s to 5 min.
    pub wait: Span,
    /// Maximum run time of a job. Default: 10 min; range: 5 s to 7 days.
    pub execution_timeout: Span,
    /// Maximum time from a job's submission to its removal. Default: 24 h; range: 10 s to 7 days.
    pub ttl: Span,
    /// Maximum time for which a take or stop poll is held open. Default: 25 s.
    pub poll_hold: Duration,
    /// Maximum time for which `/stream` is held open without new chunks. Default: 5 s (clients time out after 10 s).
    pub stream_hold: Duration,
    /// Time without a call after which a worker is lost and its jobs are requeued. Default: 60 s, six ping intervals.
    pub silence: Duration,
    /// Maximum number of times that a job is handed out before it fails because its workers were lost. Default: 3.
    pub tries: u32,
    /// Maximum number of workers that are given jobs; further workers are throttled. Default: no limit.
    pub workers: usize,
    /// Maximum number of jobs, including ended jobs that are still kept. Default: 2,000,000.
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

    /// Parses comma-separated `name=value` pairs, which override the defaults. The names are those of the fields. A
    /// size is a number of bytes or `10MB`; a duration is `250ms`, `90s`, `5m`, `24h` or `7d`; a rate is a number of
    /// calls per second, where 0 means no limit. `wait_range=1s..5m` sets the range of `wait`; `ttl_range` and
    /// `execution_timeout_range` work in the same way.
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::default().with(text)
    }
}

impl Rules {
    /// Returns these rules with changes, in the syntax of [`from_str`](Self::from_str).
    ///
    /// # Errors
    /// Returns an error if a pair is not a valid rule.
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

    /// Returns the maximum size of a request and of a result.
    pub(crate) fn payload(&self, sync: bool) -> usize {
        if sync {
            self.runsync_payload
        } else {
            self.run_payload
        }
    }

    /// Returns the time for which a result is kept.
    pub(crate) fn retention(&self, sync: bool) -> Duration {
        if sync {
            self.runsync_retention
        } else {
            self.run_retention
        }
    }
}

/// A time that a client may choose within a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Time used if the client does not choose one.
    pub default: Duration,
    /// Range of allowed times.
    pub range: RangeInclusive<Duration>,
}

impl Span {
    /// Returns the allowed time nearest to the one that the client asks for.
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
            assert!(said.starts_with(&format!("invalid rule `{bad}`")), "{said}");
        }
    }
}
