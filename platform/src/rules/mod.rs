//! The rules of an endpoint. The defaults are Runpod's documented limits.

mod current; // the preset `current`
mod parse; // the text of `--rules`

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use podwork_protocol::{JobStatus, limits};

/// The limits and times of an endpoint. The defaults are Runpod's documented limits.
///
/// ```
/// use std::time::Duration;
/// use podwork_platform::Rules;
///
/// let rules: Rules = "current,run_rate=0,chunk=64KB,ttl=1h,ttl_range=1s..7d,tries=5".parse()?;
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
    /// Maximum rate of `/run` calls; `None` for no limit. Default: 1000 per second.
    pub run_rate: Option<CallRate>,
    /// Maximum rate of `/runsync` calls; `None` for no limit. Default: 2000 per second.
    pub runsync_rate: Option<CallRate>,
    /// Maximum rate of `/status` and `/status-sync` calls together; `None` for no limit. Default: no limit.
    pub status_rate: Option<CallRate>,
    /// Maximum rate of `/stream` calls; `None` for no limit. Default: no limit.
    pub stream_rate: Option<CallRate>,
    /// Maximum rate of `/cancel` calls; `None` for no limit. Default: no limit.
    pub cancel_rate: Option<CallRate>,
    /// Maximum rate of `/purge-queue` calls; `None` for no limit. Default: no limit.
    pub purge_rate: Option<CallRate>,
    /// Calls that a rate allows per running worker in its period. The limit is the larger of the rate's own calls and
    /// this number times the workers that `/health` counts as running. Default: 0.
    pub calls_per_worker: u32,
    /// Maximum number of concurrent `/run` calls; `None` for no limit. Default: no limit.
    pub run_concurrency: Option<NonZeroU32>,
    /// Maximum number of concurrent `/runsync` calls; `None` for no limit. Default: no limit.
    pub runsync_concurrency: Option<NonZeroU32>,
    /// Maximum number of concurrent `/status` and `/status-sync` calls together; `None` for no limit. Default: no limit.
    pub status_concurrency: Option<NonZeroU32>,
    /// Maximum number of concurrent `/stream` calls; `None` for no limit. Default: no limit.
    pub stream_concurrency: Option<NonZeroU32>,
    /// Maximum number of concurrent `/cancel` calls; `None` for no limit. Default: no limit.
    pub cancel_concurrency: Option<NonZeroU32>,
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
    /// Error of a job that failed because its workers were lost. `{tries}` stands for the number of hand-outs,
    /// `{retries}` for that number less one, and `{worker}` for the id of the last worker. Default: `the job lost its
    /// worker {tries} times; last worker: {worker}`.
    pub lost_error: String,
    /// Hands out a job whose input is `{}` without the member `input`, as Runpod does. Default: `true`.
    pub strip_empty_input: bool,
    /// Pauses before the second and each further try of a webhook call. Default: 10 s, 10 s.
    pub webhook_pauses: Vec<Duration>,
    /// The status word that clients see for a running job. Default: `IN_PROGRESS`. Another word, such as `RUNNING`,
    /// shows how a client handles a word that it does not know.
    pub running_word: String,
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
            run_rate: Some(CallRate::per_second(limits::RUN_RATE)),
            runsync_rate: Some(CallRate::per_second(limits::RUNSYNC_RATE)),
            status_rate: None,
            stream_rate: None,
            cancel_rate: None,
            purge_rate: None,
            calls_per_worker: 0,
            run_concurrency: None,
            runsync_concurrency: None,
            status_concurrency: None,
            stream_concurrency: None,
            cancel_concurrency: None,
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
            lost_error: "the job lost its worker {tries} times; last worker: {worker}".to_owned(),
            strip_empty_input: true,
            webhook_pauses: vec![Duration::from_secs(10); 2],
            running_word: JobStatus::InProgress.to_string(),
            workers: usize::MAX,
            jobs: 2_000_000,
        }
    }
}

impl Rules {
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

/// A maximum number of calls in any period of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRate {
    /// Maximum number of calls. Values above 1,000,000 count as that number.
    pub calls: NonZeroU32,
    /// Length of the period.
    pub period: Duration,
}

impl CallRate {
    /// Returns the rate with this number of calls per second.
    pub fn per_second(calls: NonZeroU32) -> Self {
        Self {
            calls,
            period: Duration::from_secs(1),
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
