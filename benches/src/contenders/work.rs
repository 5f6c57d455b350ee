//! What workers of all contenders do.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde::Deserialize;

use crate::error::Result;

/// Variable that tells a worker what to do with its jobs.
pub const WORK: &str = "BENCH_WORK";
/// Variable that tells a worker how many jobs to run at once.
pub const CONCURRENCY: &str = "BENCH_CONCURRENCY";
/// What a job without work ends with.
pub const DONE: &str = "done";
/// One chunk of a stream.
pub const TOKEN: &str = "token ";
/// What a worker says before the time that a generator took for its chunks, in µs.
pub const GENERATED: &str = "generated in us: ";

/// The input of jobs that repeat something, sleep or hash.
#[derive(Debug, Deserialize)]
pub struct CountInput {
    /// Repetitions, milliseconds or bytes.
    pub count: usize,
}

/// The work of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Nothing; ends with [`DONE`].
    Noop,
    /// Gives back its input, `{"data": text}`.
    Echo,
    /// Yields [`TOKEN`] as often as `{"count"}` says.
    Stream,
    /// The same, with chunks that wait joined to one.
    Join,
    /// The same, but five in each millisecond and no faster, as a model makes its tokens.
    Paced,
    /// Says as often as `{"count"}` says how far it is.
    Progress,
    /// Sleeps as many milliseconds as `{"count"}` says.
    Sleep,
    /// Hashes as many bytes as `{"count"}` says.
    Cpu,
    /// Holds a device for as many milliseconds as `{"count"}` says, for this one job.
    Call,
    /// The same, for all jobs of a batch.
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
    /// Whether it makes chunks.
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
            .ok_or_else(|| format!("`{text}` is no work of a benchmark"))
    }
}

/// What this process is to do, by its environment.
///
/// # Errors
/// The variables are not there or make no sense.
pub fn assigned() -> Result<(Workload, usize)> {
    let read = |name| std::env::var(name).map_err(|error| format!("{name}: {error}"));
    Ok((read(WORK)?.parse()?, read(CONCURRENCY)?.parse()?))
}

/// A call of a device: a fixed time, and a little for each job. (Nothing else needs the core meanwhile.)
pub fn device(call: Duration, jobs: usize) {
    const EACH: Duration = Duration::from_micros(20);

    let each = EACH * u32::try_from(jobs).unwrap_or(u32::MAX);
    std::thread::sleep(call + each);
}

/// Some milliseconds of real work: the hash of so many zeros, its first byte.
pub fn hash(bytes: usize) -> u8 {
    digest(&SHA256, &vec![0; bytes]).as_ref()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_read_as_it_is_written() {
        for (work, name) in Workload::ALL {
            assert_eq!(work.to_string(), name);
            assert_eq!(name.parse(), Ok(work));
        }
        assert!("nap".parse::<Workload>().unwrap_err().contains("`nap`"));
    }
}
