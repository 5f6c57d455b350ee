//! What the platform bears: rates by a public tool beside those of a bare route, and the memory of very many jobs.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::contenders::work::{CONCURRENCY, WORK, Workload};
use crate::error::Result;
use crate::instruments::machine::Machine;
use crate::instruments::process::{MeasuredProcess, memory};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// How long each rate is measured, s.
    pub seconds: u32,
    /// Jobs that are queued and then weighed.
    pub queued: u64,
    /// Results that are kept until they expire.
    pub kept: u64,
}

const LIFTED: &str = "run_rate=0,runsync_rate=0";
/// How long memory may take to come back.
const PATIENCE: Duration = Duration::from_mins(2);

/// Measures, and prints a table.
///
/// # Errors
/// A program cannot be started, or does not do what it should.
pub fn run(options: LoadOptions) -> Result<()> {
    let programs = LoadPrograms::build()?;
    let wrk = Wrk::new(options.seconds)?;
    println!("{}\n", Machine::this()?);
    println!(
        "| call, 32 at once | a second | p50 | p99 | to the bare route |\n|---|---:|---:|---:|---:|"
    );
    let bare = {
        let route = Server::start(Command::new(&programs.route))?;
        wrk.measure(&route, "/run")?
    };
    tell("a bare axum route that answers as `/run`", &bare, &bare);
    for (what, rules, path) in [
        ("`/run`, the documented rate, with a worker", "", "/run"),
        (
            "`/runsync`, the documented rate, with a worker",
            "",
            "/runsync",
        ),
        ("`/run`, no rate limit, with a worker", LIFTED, "/run"),
        (
            "`/runsync`, no rate limit, with a worker",
            LIFTED,
            "/runsync",
        ),
    ] {
        let platform = programs.platform(rules)?;
        let _worker = programs.worker(&platform)?;
        tell(what, &wrk.measure(&platform, path)?, &bare);
    }
    let platform = programs.platform(LIFTED)?;
    tell(
        "`/run`, no rate limit, no worker",
        &wrk.measure(&platform, "/run")?,
        &bare,
    );
    drop(platform);
    println!();
    weigh_queued(&programs, options.queued)?;
    weigh_kept(&programs, options.kept)
}

fn tell(what: &str, rate: &Rate, bare: &Rate) {
    let Rate {
        accepted,
        refused,
        p50,
        p99,
    } = rate;
    let mut note = String::new();
    if *refused > 0.0 {
        // Writing to a String cannot fail.
        let _ = write!(note, " ({refused:.0} more refused)");
    }
    let ratio = accepted / bare.accepted;
    println!("| {what} | {accepted:.0}{note} | {p50} | {p99} | {ratio:.3}× |");
}

/// Queues jobs, and says what one takes.
fn weigh_queued(programs: &LoadPrograms, jobs: u64) -> Result<()> {
    let platform = programs.platform(LIFTED)?;
    let wrk = Wrk::new(5)?;
    let before = platform.memory()?;
    let mut queued = 0;
    while queued < jobs {
        wrk.measure(&platform, "/run")?;
        queued = platform.health("inQueue")?;
    }
    let each = (platform.memory()? - before) / queued;
    println!("{queued} queued jobs, with an input of 2 bytes each: {each} bytes of memory a job");
    Ok(())
}

/// Has jobs done, and their results kept until they expire.
fn weigh_kept(programs: &LoadPrograms, jobs: u64) -> Result<()> {
    const RETENTION: u64 = 60;
    let platform = programs.platform(&format!("{LIFTED},run_retention={RETENTION}s"))?;
    let before = platform.memory()?;
    let mut connection = platform.connect()?;
    // In at most so many seconds as results are kept.
    for _ in 0..jobs {
        post(
            &mut connection,
            "/run",
            r#"{"input":{"prompt":"to be or not to be"}}"#,
        )?;
    }
    let worker = programs.worker(&platform)?;
    platform.until(|overview| overview["health"]["jobs"]["completed"].as_u64() >= Some(jobs))?;
    let kept = platform.memory()?;
    drop(worker);
    platform.until(|overview| overview["jobs"].as_array().is_some_and(Vec::is_empty))?;
    // An allocator gives memory back while it is asked for other memory.
    let began = Instant::now();
    let mut after = platform.memory()?;
    while after > before + (kept - before) / 4 && began.elapsed() < PATIENCE {
        platform.health("inQueue")?;
        after = platform.memory()?;
    }
    let megabytes = |bytes: u64| bytes / 1_000_000;
    println!(
        "{jobs} results kept: {} MB over an empty platform; {RETENTION} s later, all expired: {} MB",
        megabytes(kept - before),
        megabytes(after.saturating_sub(before))
    );
    Ok(())
}

/// The programs that take part.
#[derive(Debug)]
struct LoadPrograms {
    release: PathBuf,
    route: PathBuf,
}

impl LoadPrograms {
    /// Builds the platform as its users have it; the others were built with this program, or are now.
    fn build() -> Result<Self> {
        let this = std::env::current_exe()?;
        let release = this
            .parent()
            .ok_or("this program is in no folder")?
            .to_owned();
        let target = release
            .parent()
            .ok_or("this program is in no target folder")?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args([
                "build",
                "--release",
                "--package",
                "podwork-platform",
                "--package",
            ])
            .args([env!("CARGO_PKG_NAME"), "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .arg("--target-dir")
            .arg(target)
            .status()?;
        if !built.success() {
            return Err(format!("cargo build failed ({built})").into());
        }
        Ok(Self {
            route: release.join("bench-route"),
            release,
        })
    }

    fn platform(&self, rules: &str) -> Result<Server> {
        let mut command = Command::new(self.release.join("podwork-platform"));
        command.args(["--port", "0", "--rules", rules]);
        Server::start(command)
    }

    fn worker(&self, platform: &Server) -> Result<MeasuredProcess> {
        let mut command = Command::new(self.release.join("bench-worker"));
        command
            .env(WORK, Workload::Noop.to_string())
            .env(CONCURRENCY, "100")
            .env("RUNPOD_LOG_LEVEL", "ERROR");
        MeasuredProcess::start(command, &platform.worker_env)
    }
}

/// A program that listens, and says where.
#[derive(Debug)]
struct Server {
    child: Child,
    host: String,
    worker_env: Vec<(String, String)>,
}

impl Server {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", Path::new(command.get_program()).display()))?;
        let output = child.stdout.take().ok_or("no standard output")?;
        let mut server = Self {
            child,
            host: String::new(),
            worker_env: Vec::new(),
        };
        for line in BufReader::new(output).lines() {
            let line = line?;
            if let Some((name, value)) = line
                .strip_prefix("export ")
                .and_then(|line| line.split_once('='))
            {
                let value = value.trim_matches(['\'', '"']).to_owned();
                server.worker_env.push((name.to_owned(), value));
            }
            if let Some(url) = line.strip_prefix("# Console: http://") {
                url.trim_end_matches('/').clone_into(&mut server.host);
                return Ok(server);
            }
        }
        Err("the server did not say where it listens".into())
    }

    fn memory(&self) -> Result<u64> {
        Ok(memory(self.child.id())?.now)
    }

    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(&self.host)?;
        stream.set_nodelay(true)?;
        Ok(BufReader::new(stream))
    }

    /// One of the counts of jobs.
    fn health(&self, count: &str) -> Result<u64> {
        let mut stream = self.connect()?;
        stream
            .get_mut()
            .write_all(b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer
            .split("\r\n\r\n")
            .nth(1)
            .ok_or("no answer of /health")?;
        let health: Value = serde_json::from_str(body)?;
        health["jobs"][count]
            .as_u64()
            .ok_or_else(|| format!("no {count} in {body}").into())
    }

    /// Watches the console's events until one is as wanted.
    fn until(&self, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let mut stream = self.connect()?;
        stream
            .get_mut()
            .write_all(b"GET /v2/local/console/events HTTP/1.1\r\nHost: h\r\n\r\n")?;
        for line in stream.lines() {
            let line = line?;
            // A line of the body's framing is no event.
            let Some(event) = line.strip_prefix("data: ") else {
                continue;
            };
            if wanted(&serde_json::from_str(event)?) {
                return Ok(());
            }
        }
        Err("the console's events ended".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Posts on a connection that is kept, and passes over the answer, which must be 200.
fn post(connection: &mut BufReader<TcpStream>, path: &str, body: &str) -> Result<()> {
    let length = body.len();
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{body}");
    connection.get_mut().write_all(request.as_bytes())?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(format!("{path}: {line}").into());
    }
    let mut length = 0;
    while line.trim() != "" {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        line.clear();
        connection.read_line(&mut line)?;
    }
    std::io::copy(&mut connection.take(length), &mut std::io::sink())?;
    Ok(())
}

/// The public tool.
#[derive(Debug)]
struct Wrk {
    seconds: u32,
    script: NamedTempFile,
}

/// What it found.
#[derive(Debug, Clone, PartialEq)]
struct Rate {
    /// Calls answered with 2xx, a second.
    accepted: f64,
    /// Others.
    refused: f64,
    p50: String,
    p99: String,
}

impl Wrk {
    fn new(seconds: u32) -> Result<Self> {
        let mut script = NamedTempFile::with_suffix(".lua")?;
        let lines = "wrk.method = \"POST\"\nwrk.body = '{\"input\":{}}'\n";
        script.write_all(lines.as_bytes())?;
        Ok(Self { seconds, script })
    }

    fn measure(&self, server: &Server, path: &str) -> Result<Rate> {
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
            .map_err(|error| format!("wrk: {error}; install it: apt-get install wrk"))?;
        let said = String::from_utf8_lossy(&done.stdout);
        Rate::read(&said)
            .ok_or_else(|| format!("wrk did not say what was expected:\n{said}").into())
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
    fn what_wrk_says_is_read() {
        let said = "Running 2s test @ http://127.0.0.1:1/run\n  Latency Distribution\n     50%    1.20ms\n     99%    3.40ms\n  \
                    2000 requests in 2.00s, 1.0MB read\n  Non-2xx or 3xx responses: 500\nRequests/sec:   1000.00\n";
        let rate = Rate::read(said).unwrap();
        assert_eq!((rate.accepted, rate.refused), (750.0, 250.0));
        assert_eq!((&*rate.p50, &*rate.p99), ("1.20ms", "3.40ms"));
        assert_eq!(Rate::read("wrk: unable to connect"), None);
    }
}
