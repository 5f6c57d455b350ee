//! The floor: what the same jobs cost with no runtime around them.
//!
//! As many keep-alive HTTP/1 connections as jobs at once, on one thread; on each, one after the other: take a job, do
//! its work, post the result. It reads a job's id and input and the answers' status, and that is all: no retries, no
//! heartbeat, no stop channel, no log, no limits, no checks. No worker can do with less; none that is of use does.

use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use podwork_benches::Result;
use podwork_benches::contenders::work::{self, DONE, TOKEN, Workload};
use podwork_protocol::{RawValue, env};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

#[derive(Deserialize)]
struct Job<'a> {
    #[serde(borrow)]
    id: &'a str,
    #[serde(borrow)]
    input: &'a RawValue,
}

#[derive(Deserialize)]
struct Count {
    count: usize,
}

/// Where to post something of a job: what stands before its id, and behind.
#[derive(Clone)]
struct Path {
    before: String,
    behind: String,
}

impl Path {
    /// … by a template whose path ends in the job's id.
    fn of(variable: &str, worker_id: &str) -> Result<(SocketAddr, Self)> {
        let template = variable_of(variable)?.replace("$RUNPOD_POD_ID", worker_id);
        let url: Uri = template.replace("$ID", "_").parse()?;
        let host = url.authority().ok_or("the URL names no host")?.as_str();
        let at = template.find(host).ok_or("the URL names no host")?;
        let (before, behind) = template[at + host.len()..]
            .split_once("$ID")
            .ok_or("the URL has no place for an id")?;
        let path = Self {
            before: before.to_owned(),
            behind: behind.to_owned(),
        };
        Ok((host.parse()?, path))
    }

    fn with(&self, id: &str, parameter: &str) -> String {
        let Self { before, behind } = self;
        format!("{before}{id}{behind}&{parameter}")
    }
}

fn variable_of(name: &str) -> Result<String> {
    std::env::var(name).map_err(|error| format!("{name}: {error}").into())
}

#[derive(Clone)]
struct Client {
    work: Workload,
    addr: SocketAddr,
    take: String,
    done: Path,
    stream: Path,
}

impl Client {
    fn new(work: Workload) -> Result<Self> {
        let worker_id = variable_of(env::POD_ID)?;
        let (addr, take) = Path::of(env::GET_JOB, &worker_id)?;
        Ok(Self {
            work,
            addr,
            take: take.with(&worker_id, "job_in_progress=0"),
            done: Path::of(env::POST_OUTPUT, &worker_id)?.1,
            stream: Path::of(env::POST_STREAM, &worker_id)?.1,
        })
    }

    /// Serves jobs on one connection, for ever.
    async fn serve(self) -> Result<()> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut connection = Connection {
            sender,
            host: self.addr.to_string(),
        };
        loop {
            let (status, body) = connection.call(Method::GET, &self.take, "").await?;
            if status == StatusCode::OK {
                let job: Job<'_> = serde_json::from_slice(&body)?;
                self.run(&mut connection, job).await?;
            }
        }
    }

    async fn run(&self, connection: &mut Connection, job: Job<'_>) -> Result<()> {
        let count = || serde_json::from_str::<Count>(job.input.get()).map(|input| input.count);
        let result = match self.work {
            Workload::Noop => format!(r#"{{"output":"{DONE}"}}"#),
            Workload::Echo => format!(r#"{{"output":{}}}"#, job.input.get()),
            Workload::Stream | Workload::Join | Workload::Paced => {
                for _ in 0..count()? {
                    let chunk = format!(r#"{{"output":"{TOKEN}"}}"#);
                    let path = self.stream.with(job.id, "isStream=false");
                    connection.post(&path, chunk).await?;
                }
                r#"{"output":[]}"#.to_owned()
            }
            Workload::Progress => {
                for update in 0..count()? {
                    let progress = format!(r#"{{"status":"IN_PROGRESS","output":{update}}}"#);
                    let path = self.done.with(job.id, "isStream=false");
                    connection.post(&path, progress).await?;
                }
                format!(r#"{{"output":"{DONE}"}}"#)
            }
            // The last two are not the floor's: it has no batches to compare.
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
        connection.post(&path, result).await
    }
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<(StatusCode, Bytes)> {
        self.sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .body(Full::new(body.into()))?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    async fn post(&mut self, path: &str, body: String) -> Result<()> {
        let (status, answer) = self.call(Method::POST, path, body).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(format!("{status} from {path}: {}", String::from_utf8_lossy(&answer)).into())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Err(error) = serve().await;
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn serve() -> Result<std::convert::Infallible> {
    let (work, concurrency) = work::assigned()?;
    let client = Client::new(work)?;
    let mut connections: JoinSet<Result<()>> = JoinSet::new();
    for _ in 0..concurrency {
        connections.spawn(client.clone().serve());
    }
    match connections.join_next().await {
        Some(ended) => ended??,
        None => return Err("there are to be no connections".into()),
    }
    Err(Box::<dyn Error + Send + Sync>::from(
        "a connection has ended",
    ))
}
