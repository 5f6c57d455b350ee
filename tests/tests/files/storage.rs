//! A real S3 server in the test process, which checks signatures and can inject faults.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::pending;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

pub(crate) const ID: &str = "AKIDEXAMPLE";
pub(crate) const SECRET: &str = "a-secret-that-nobody-may-see";
pub(crate) const BUCKET: &str = "pictures";

/// A running S3 server with one bucket. Stops when dropped.
pub(crate) struct Storage {
    addr: SocketAddr,
    root: TempDir,
    seen: watch::Receiver<Vec<Seen>>,
    _tasks: JoinSet<()>,
}

/// A request that the server received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    /// The number of earlier requests of the same kind.
    pub(crate) before: usize,
    pub(crate) target: String,
    pub(crate) range: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Put,
    Create,
    Part,
    Complete,
    Abort,
    Get,
    Head,
}

/// A fault that the server injects into a request.
#[derive(Clone)]
pub(crate) enum Fault {
    /// Answers with this status, error code and header.
    Answer(u16, &'static str, Option<(&'static str, &'static str)>),
    /// Breaks the connection while the request body arrives.
    Cut,
    /// Executes the request, but breaks the connection instead of answering.
    Lost,
    /// Does nothing until the client disconnects.
    Silence,
    /// Breaks the connection after the given number of bytes of the response body.
    Half(usize),
    /// Delays the request until notified.
    Wait(Arc<Notify>),
    /// Reads the request body slowly, at 4 MiB per second.
    Slow,
}

impl Kind {
    fn of(request: &Request<Incoming>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        match (request.method().as_str(), query) {
            ("POST", query) if query.contains("uploadId=") => Self::Complete,
            ("POST", _) => Self::Create,
            ("PUT", query) if query.contains("partNumber=") => Self::Part,
            ("PUT", _) => Self::Put,
            ("DELETE", _) => Self::Abort,
            ("GET", _) => Self::Get,
            ("HEAD", _) => Self::Head,
            (other, _) => panic!("unexpected method {other}"),
        }
    }
}

type StorageBody = UnsyncBoxBody<Bytes, io::Error>;

impl Storage {
    /// Starts a server without faults.
    pub(crate) async fn start() -> Self {
        Self::with(|_| None).await
    }

    /// Starts a server in which `fault` chooses the fault, if any, of each request.
    pub(crate) async fn with(
        fault: impl Fn(&Seen) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ID, SECRET));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (note, seen) = watch::channel(Vec::new());
        let shared = Arc::new((service, note, fault));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let answer = service_fn(move |request| {
                    let shared = Arc::clone(&shared);
                    async move {
                        let (service, note, fault) = &*shared;
                        let seen = noted(&request, note);
                        answer(service, request, fault(&seen)).await
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer);
                connections.spawn(async move {
                    // An injected fault may have cut the connection.
                    let _ = connection.await;
                });
            }
        });
        Self {
            addr,
            root,
            seen,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Returns the environment variables of a worker that uses this bucket.
    pub(crate) fn env(&self) -> [(&'static str, String); 4] {
        [
            ("BUCKET_ENDPOINT_URL", self.url()),
            ("BUCKET_ACCESS_KEY_ID", ID.to_owned()),
            ("BUCKET_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("BUCKET_NAME", BUCKET.to_owned()),
        ]
    }

    /// Returns the number of requests of a kind so far.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        let seen = self.seen.borrow();
        seen.iter().filter(|seen| seen.kind == kind).count()
    }

    /// Returns the `Range` header of a GET request; `number` counts these requests from 0.
    pub(crate) fn range(&self, number: usize) -> Option<String> {
        let seen = self.seen.borrow();
        let mut gets = seen.iter().filter(|seen| seen.kind == Kind::Get);
        gets.nth(number).unwrap().range.clone()
    }

    /// Waits until the server has received `count` requests of a kind.
    pub(crate) async fn saw(&self, kind: Kind, count: usize) {
        let mut seen = self.seen.clone();
        let enough =
            |seen: &Vec<Seen>| seen.iter().filter(|seen| seen.kind == kind).count() >= count;
        let came = tokio::time::timeout(Duration::from_mins(1), seen.wait_for(enough)).await;
        came.expect("timed out waiting for requests").unwrap();
    }

    /// Returns the keys of all objects in the bucket.
    pub(crate) fn objects(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let bucket = self.root.path().join(BUCKET);
        let mut folders = vec![bucket.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let key = path.strip_prefix(&bucket).unwrap();
                    found.insert(key.to_str().unwrap().to_owned());
                }
            }
        }
        found
    }

    pub(crate) fn object(&self, key: &str) -> Vec<u8> {
        fs::read(self.root.path().join(BUCKET).join(key)).unwrap()
    }

    /// Returns the names of the files that the server keeps for incomplete uploads.
    pub(crate) fn incomplete(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("upload")).collect()
    }
}

fn noted(request: &Request<Incoming>, note: &watch::Sender<Vec<Seen>>) -> Seen {
    let kind = Kind::of(request);
    let mut new = None;
    note.send_modify(|seen| {
        let before = seen.iter().filter(|seen: &&Seen| seen.kind == kind).count();
        let target = request.uri().to_string();
        let range = request.headers().get("range");
        let one = Seen {
            kind,
            before,
            target,
            range: range.map(|range| range.to_str().unwrap().to_owned()),
        };
        seen.push(one.clone());
        new = Some(one);
    });
    new.unwrap()
}

async fn answer(
    service: &S3Service,
    mut request: Request<Incoming>,
    fault: Option<Fault>,
) -> io::Result<Response<StorageBody>> {
    match &fault {
        None | Some(Fault::Lost | Fault::Half(_)) => {}
        Some(Fault::Answer(status, code, header)) => {
            // Real servers echo parts of the request, including some that an error must not show.
            let body = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>No.</Message>\
                 <AWSAccessKeyId>{ID}</AWSAccessKeyId><StringToSign>{SECRET}</StringToSign></Error>"
            );
            let mut answer = Response::builder().status(*status);
            if let Some((name, value)) = header {
                answer = answer.header(*name, *value);
            }
            // A client that still sends its body may miss the answer.
            while request.body_mut().frame().await.is_some() {}
            let body = http_body_util::Full::from(body).map_err(|never: Infallible| match never {});
            return Ok(answer.body(body.boxed_unsync()).unwrap());
        }
        Some(Fault::Cut) => {
            request.body_mut().frame().await;
            return Err(io::Error::other("cut"));
        }
        Some(Fault::Silence) => return pending().await,
        Some(Fault::Wait(until)) => until.notified().await,
        Some(Fault::Slow) => {
            let mut next = tokio::time::Instant::now();
            while let Some(Ok(frame)) = request.body_mut().frame().await {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                next += Duration::from_secs(1) * u32::try_from(bytes).unwrap() / (4 << 20);
                tokio::time::sleep_until(next).await;
            }
            let empty = http_body_util::Empty::new().map_err(|never: Infallible| match never {});
            let answer = Response::builder().header("etag", "\"slow\"");
            return Ok(answer.body(empty.boxed_unsync()).unwrap());
        }
    }
    let lost = matches!(fault, Some(Fault::Lost));
    let answer = service.call(request.map(s3s::Body::from)).await;
    if lost {
        return Err(io::Error::other("lost"));
    }
    let answer = answer.map_err(|error| io::Error::other(format!("{error:?}")))?;
    if let Some(Fault::Half(len)) = fault {
        let (head, body) = answer.into_parts();
        let whole = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let half = [
            Ok(Frame::data(whole.slice(..len))),
            Err(io::Error::other("cut")),
        ];
        let body = StreamBody::new(futures::stream::iter(half)).boxed_unsync();
        return Ok(Response::from_parts(head, body));
    }
    Ok(answer.map(|body| body.map_err(io::Error::other).boxed_unsync()))
}
