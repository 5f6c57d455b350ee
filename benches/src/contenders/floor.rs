//! The code of both floors: take a job, do its work and post the result, without a worker runtime.
//!
//! A floor has one keep-alive HTTP/1.1 connection for each concurrent job, all on one thread. Each connection makes one
//! call at a time. A floor reads only a job's id and input and the status of each answer. It has no retries, no
//! heartbeat, no cancel channel, no log and no checks. The floors differ only in how a connection writes requests and
//! reads answers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use podwork_protocol::{RawValue, env};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::work::{self, CountInput, DONE, TOKEN, Workload};
use crate::error::Result;

/// The answer to a call.
#[derive(Debug)]
pub struct FloorAnswer {
    /// The status code.
    pub status: u16,
    /// The whole body.
    pub body: Bytes,
}

/// A keep-alive connection to the platform.
pub trait FloorConnection: Send + Sized + 'static {
    /// Connects, with `TCP_NODELAY`.
    fn connect(addr: SocketAddr) -> impl Future<Output = Result<Self>> + Send;

    /// Sends a `GET` request and reads the whole answer.
    fn get(&mut self, path: &str) -> impl Future<Output = Result<FloorAnswer>> + Send;

    /// Sends a `POST` request and reads the whole answer.
    fn post(
        &mut self,
        path: &str,
        body: String,
    ) -> impl Future<Output = Result<FloorAnswer>> + Send;
}

/// Runs the floor until a connection fails.
pub async fn run<C: FloorConnection>() -> ExitCode {
    let Err(error) = serve::<C>().await;
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn serve<C: FloorConnection>() -> Result<Infallible> {
    let (work, concurrency) = work::assigned()?;
    let floor = Floor::new(work)?;
    let mut connections: JoinSet<Result<Infallible>> = JoinSet::new();
    for _ in 0..concurrency {
        connections.spawn(floor.clone().serve::<C>());
    }
    let ended = connections.join_next().await;
    ended.ok_or("the concurrency is 0")??
}

#[derive(Deserialize)]
struct TakenJob<'a> {
    #[serde(borrow)]
    id: &'a str,
    #[serde(borrow)]
    input: &'a RawValue,
}

/// The path of a call about a job: the text before its id, and the text after it.
#[derive(Debug, Clone, PartialEq)]
struct JobPath {
    before: String,
    after: String,
}

impl JobPath {
    /// Reads the URL template in a variable. Its host must be an IP address.
    fn of(variable: &str, worker_id: &str) -> Result<(SocketAddr, Self)> {
        Self::parse(&variable_of(variable)?, worker_id)
            .map_err(|error| format!("{variable}: {error}").into())
    }

    fn parse(template: &str, worker_id: &str) -> Result<(SocketAddr, Self)> {
        let template = template.replace("$RUNPOD_POD_ID", worker_id);
        let rest = template
            .strip_prefix("http://")
            .ok_or("the URL does not start with http://")?;
        let (host, path) = rest
            .split_at_checked(rest.find('/').unwrap_or(rest.len()))
            .ok_or("the URL has no path")?;
        let (before, after) = path.split_once("$ID").ok_or("the URL has no $ID")?;
        let path = Self {
            before: before.to_owned(),
            after: after.to_owned(),
        };
        Ok((host.parse()?, path))
    }

    fn with(&self, id: &str, parameter: &str) -> String {
        let Self { before, after } = self;
        format!("{before}{id}{after}&{parameter}")
    }
}

fn variable_of(name: &str) -> Result<String> {
    std::env::var(name).map_err(|error| format!("{name}: {error}").into())
}

/// The workload, and the paths of the calls.
#[derive(Debug, Clone)]
struct Floor {
    work: Workload,
    addr: SocketAddr,
    take: String,
    done: JobPath,
    stream: JobPath,
}

impl Floor {
    fn new(work: Workload) -> Result<Self> {
        let worker_id = variable_of(env::POD_ID)?;
        let (addr, take) = JobPath::of(env::GET_JOB, &worker_id)?;
        Ok(Self {
            work,
            addr,
            take: take.with(&worker_id, "job_in_progress=0"),
            done: JobPath::of(env::POST_OUTPUT, &worker_id)?.1,
            stream: JobPath::of(env::POST_STREAM, &worker_id)?.1,
        })
    }

    /// Serves jobs on one connection until it fails.
    async fn serve<C: FloorConnection>(self) -> Result<Infallible> {
        let mut connection = C::connect(self.addr).await?;
        loop {
            let FloorAnswer { status, body } = connection.get(&self.take).await?;
            if status == 200 {
                let job: TakenJob<'_> = serde_json::from_slice(&body)?;
                self.run(&mut connection, job).await?;
            }
        }
    }

    async fn run<C: FloorConnection>(&self, connection: &mut C, job: TakenJob<'_>) -> Result<()> {
        let count = || serde_json::from_str::<CountInput>(job.input.get()).map(|input| input.count);
        let result = match self.work {
            Workload::Noop => format!(r#"{{"output":"{DONE}"}}"#),
            Workload::Echo => format!(r#"{{"output":{}}}"#, job.input.get()),
            Workload::Stream | Workload::Join | Workload::Paced => {
                for _ in 0..count()? {
                    let chunk = format!(r#"{{"output":"{TOKEN}"}}"#);
                    let path = self.stream.with(job.id, "isStream=false");
                    post(connection, &path, chunk).await?;
                }
                r#"{"output":[]}"#.to_owned()
            }
            Workload::Progress => {
                for update in 0..count()? {
                    let progress = format!(r#"{{"status":"IN_PROGRESS","output":{update}}}"#);
                    let path = self.done.with(job.id, "isStream=false");
                    post(connection, &path, progress).await?;
                }
                format!(r#"{{"output":"{DONE}"}}"#)
            }
            // No case measures a floor with the last two: a floor has no batches to compare.
            Workload::Sleep | Workload::Call | Workload::Batch => {
                tokio::time::sleep(Duration::from_millis(count()? as u64)).await;
                format!(r#"{{"output":"{DONE}"}}"#)
            }
            Workload::Cpu => {
                let bytes = count()?;
                let hash = tokio::task::spawn_blocking(move || work::hash(bytes)).await?;
                format!(r#"{{"output":{hash}}}"#)
            }
        };
        let streams = self.work.streams();
        let path = self.done.with(job.id, &format!("isStream={streams}"));
        post(connection, &path, result).await
    }
}

/// Sends a post. Returns an error if the platform does not accept it.
async fn post<C: FloorConnection>(connection: &mut C, path: &str, body: String) -> Result<()> {
    let FloorAnswer { status, body } = connection.post(path, body).await?;
    if (200..300).contains(&status) {
        return Ok(());
    }
    Err(format!("{status} from {path}: {}", String::from_utf8_lossy(&body)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_url_templates() {
        let template = "http://127.0.0.1:80/v2/e/job-done/$RUNPOD_POD_ID/$ID?gpu=x";
        let (addr, path) = JobPath::parse(template, "w").unwrap();
        assert_eq!(addr, "127.0.0.1:80".parse().unwrap());
        assert_eq!(
            path.with("j", "isStream=false"),
            "/v2/e/job-done/w/j?gpu=x&isStream=false"
        );
        for invalid in [
            "https://127.0.0.1:80/$ID",
            "http://127.0.0.1:80/x",
            "http://h/$ID",
        ] {
            assert!(JobPath::parse(invalid, "w").is_err(), "{invalid}");
        }
    }
}
