//! The workloads of the contenders.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde::Deserialize;

use crate::error::Result;

/// The variable with a worker's workload.
pub const WORK: &str = "BENCH_WORK";
/// The variable with a worker's concurrency.
pub const CONCURRENCY: &str = "BENCH_CONCURRENCY";
/// The output of a job without work.
pub const DONE: &str = "done";
/// One chunk of a stream.
pub const TOKEN: &str = "token ";
/// The prefix of a line in a worker's output with the time that a generator took for its chunks, in µs.
pub const GENERATED: &str = "generated in us: ";

/// The input of jobs that repeat an action, sleep or hash.
#[derive(Debug, Deserialize)]
pub struct CountInput {
    /// The number of repetitions, milliseconds or bytes.
    pub count: usize,
}

/// A workload of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Does nothing and returns [`DONE`].
    Noop,
    /// Returns its input, `{"data": text}`.
    Echo,
    /// Yields [`TOKEN`] `{"count"}` times.
    Stream,
    /// Like `Stream`, but joins waiting chunks into one.
    Join,
    /// Like `Join`, but yields five chunks per millisecond, as a model generates tokens.
    Paced,
    /// Reports progress `{"count"}` times.
    Progress,
    /// Sleeps `{"count"}` milliseconds.
    Sleep,
    /// Hashes `{"count"}` bytes.
    Cpu,
    /// Occupies a device for `{"count"}` milliseconds, for one job.
    Call,
    /// Like `Call`, but for all jobs of a batch.
    Batch,
}

impl Workload {
    const ALL: [(Self, &str); 10] = [
        (Self::Noop, "noop"),
        (Self::Echo, "echo"),
        (Self::Stream, "stream"),
        (Self::Join, "join"),
        (Self::Paced, "paced"),
        (Self::Progress, "progress"),
        (Self::Sleep, "sleep"),
        (Self::Cpu, "cpu"),
        (Self::Call, "call"),
        (Self::Batch, "batch"),
    ];
}

impl Workload {
    /// Returns whether the workload yields chunks.
    pub const fn streams(self) -> bool {
        matches!(self, Self::Stream | Self::Join | Self::Paced)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(work, _)| work == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found
            .map(|(work, _)| *work)
            .ok_or_else(|| format!("unknown workload `{text}`"))
    }
}

/// Reads the workload and the concurrency of this process from its environment.
///
/// # Errors
/// Returns an error if a variable is missing or invalid.
pub fn assigned() -> Result<(Workload, usize)> {
    let read = |name| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    Ok((read(WORK)?.parse()?, read(CONCURRENCY)?.parse()?))
}

/// Simulates a call to a device, which takes a fixed time and a little time per job, and does not use the CPU.
pub fn device(call: Duration, jobs: usize) {
    const EACH: Duration = Duration::from_micros(20);

    let each = EACH * u32::try_from(jobs).unwrap_or(u32::MAX);
    std::thread::sleep(call + each);
}

/// Hashes `bytes` zeros, which takes some milliseconds for 8 MB, and returns the first byte of the hash.
pub fn hash(bytes: usize) -> u8 {
    digest(&SHA256, &vec![0; bytes]).as_ref()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_names_are_read_as_written() {
        for (work, name) in Workload::ALL {
            assert_eq!(work.to_string(), name);
            assert_eq!(name.parse(), Ok(work));
        }
        assert!("nap".parse::<Workload>().unwrap_err().contains("`nap`"));
    }
}
