//! What can be set, with the documented defaults.

use std::num::NonZeroU32;
use std::time::Duration;

use podwork_protocol::limits;

/// Rules of the platform's endpoints.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Largest `/run` request and result, bytes.
    pub(crate) run_payload: usize,
    /// Largest `/runsync` request and result, bytes.
    pub(crate) runsync_payload: usize,
    /// Largest stream chunk, bytes.
    pub(crate) chunk: usize,
    /// Most bytes of chunks that one job keeps.
    pub(crate) stream_buffer: usize,
    /// How long results of `/run` are kept.
    pub(crate) run_retention: Duration,
    /// How long results of `/runsync` are kept.
    pub(crate) runsync_retention: Duration,
    /// How long a take or a stop poll is held open.
    pub(crate) poll_hold: Duration,
    /// How long `/stream` is held open while there is nothing new: clients give up on a call after 10 s.
    pub(crate) stream_hold: Duration,
    /// What workers are told to ping at.
    pub(crate) ping_interval: Duration,
    /// A worker not heard of for so long loses its jobs.
    pub(crate) silence: Duration,
    /// How often a job is handed out before it fails because its workers were lost.
    pub(crate) tries: u32,
    /// `/run` calls a second, of each endpoint; `None`: any number.
    pub(crate) run_rate: Option<NonZeroU32>,
    /// `/runsync` calls a second, of each endpoint; `None`: any number.
    pub(crate) runsync_rate: Option<NonZeroU32>,
    /// What clients have to show; `None`: nothing.
    pub(crate) api_key: Option<String>,
    /// What workers have to show; `None`: what clients have to.
    pub(crate) worker_key: Option<String>,
    /// A request body that the console's form begins with.
    pub(crate) example: Option<String>,
    /// Most jobs of one endpoint, queued, running and kept together.
    pub(crate) jobs: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            run_payload: limits::RUN_PAYLOAD,
            runsync_payload: limits::RUNSYNC_PAYLOAD,
            chunk: limits::CHUNK,
            stream_buffer: 64 * 1024 * 1024,
            run_retention: limits::RUN_RETENTION,
            runsync_retention: limits::RUNSYNC_RETENTION,
            poll_hold: Duration::from_secs(25),
            stream_hold: Duration::from_secs(5),
            ping_interval: limits::DEFAULT_PING_INTERVAL,
            silence: limits::DEFAULT_PING_INTERVAL * 6,
            tries: 3,
            run_rate: Some(limits::RUN_RATE),
            runsync_rate: Some(limits::RUNSYNC_RATE),
            api_key: None,
            worker_key: None,
            example: None,
            jobs: 2_000_000,
        }
    }
}
