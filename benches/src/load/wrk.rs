//! Rates, measured with the tool wrk.

use std::io::Write as _;
use std::process::Command;

use tempfile::NamedTempFile;

use super::server::Server;
use crate::error::Result;

/// The HTTP benchmarking tool wrk.
#[derive(Debug)]
pub(super) struct Wrk {
    seconds: u32,
    script: NamedTempFile,
}

/// The rates and latencies that wrk reports.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rate {
    /// The calls per second that were answered with 2xx.
    pub(super) accepted: f64,
    /// The calls per second that were answered with other statuses.
    pub(super) refused: f64,
    pub(super) p50: String,
    pub(super) p99: String,
}

impl Wrk {
    pub(super) fn new(seconds: u32) -> Result<Self> {
        let mut script = NamedTempFile::with_suffix(".lua")?;
        let lines = "wrk.method = \"POST\"\nwrk.body = '{\"input\":{}}'\n";
        script.write_all(lines.as_bytes())?;
        Ok(Self { seconds, script })
    }

    pub(super) fn measure(&self, server: &Server, path: &str) -> Result<Rate> {
        let done = Command::new("wrk")
            .args([
                "--threads",
                "1",
                "--connections",
                "32",
                "--timeout",
                "10s",
                "--latency",
            ])
            .args(["--duration", &format!("{}s", self.seconds), "--script"])
            .arg(self.script.path())
            .arg(format!("http://{}{path}", server.host))
            .output()
            .map_err(|error| format!("cannot run wrk: {error}; install it: apt-get install wrk"))?;
        let said = String::from_utf8_lossy(&done.stdout);
        Rate::read(&said).ok_or_else(|| format!("unexpected output of wrk:\n{said}").into())
    }
}

impl Rate {
    fn read(said: &str) -> Option<Self> {
        let after = |name: &str| {
            let mut lines = said.lines().map(str::trim);
            lines
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        let rate: f64 = after("Requests/sec:")?.parse().ok()?;
        let calls: f64 = said
            .lines()
            .find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok())?;
        let refused: f64 =
            after("Non-2xx or 3xx responses:").map_or(Some(0.0), |count| count.parse().ok())?;
        Some(Self {
            accepted: rate * (1.0 - refused / calls),
            refused: rate * refused / calls,
            p50: after("50%")?.to_owned(),
            p99: after("99%")?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_wrk_is_read() {
        let said = "Running 2s test @ http://127.0.0.1:1/run\n  Latency Distribution\n     50%    1.20ms\n     99%    3.40ms\n  \
                    2000 requests in 2.00s, 1.0MB read\n  Non-2xx or 3xx responses: 500\nRequests/sec:   1000.00\n";
        let rate = Rate::read(said).unwrap();
        assert_eq!((rate.accepted, rate.refused), (750.0, 250.0));
        assert_eq!((&*rate.p50, &*rate.p99), ("1.20ms", "3.40ms"));
        assert_eq!(Rate::read("wrk: unable to connect"), None);
    }
}
