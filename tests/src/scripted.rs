//! A platform whose responses a test scripts, and which records every request.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A request, as received.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The method, such as `GET` or `POST`.
    pub method: String,
    /// The path as received, without the query.
    pub path: String,
    /// The query parameters in order, decoded.
    pub query: Vec<(String, String)>,
    /// The headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body, as text.
    pub body: String,
}

impl Recorded {
    /// Returns the value of a query parameter.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Parses the body as JSON.
    ///
    /// # Panics
    /// Panics if the body is not valid JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.path, self.body))
    }

    /// Returns the path segment that names the call (`job-take`, `job-done`, `ping`, …), or an empty text.
    #[must_use]
    pub fn call(&self) -> &str {
        let calls = [
            "job-take-batch",
            "job-take",
            "job-stop",
            "job-done",
            "job-stream",
            "ping",
        ];
        let mut segments = self.path.split('/');
        segments
            .find(|segment| calls.contains(segment))
            .unwrap_or("")
    }
}

/// A scripted response.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Responds with a status and a JSON body.
    Json(u16, Value),
    /// Responds with a status, headers and a body.
    Raw(u16, Vec<(&'static str, &'static str)>, Vec<u8>),
    /// Responds with a status and no body.
    Status(u16),
    /// Responds with a status and `Retry-After`, in seconds.
    RetryAfter(u16, u64),
    /// Breaks the connection without a response.
    Drop,
    /// Breaks the connection in the middle of a response with status 200.
    Torn,
    /// Responds after a delay.
    After(Duration, Box<Answer>),
    /// Never responds.
    Hold,
    /// Responds once the value is true.
    When(watch::Receiver<bool>, Box<Answer>),
}

type Script = dyn Fn(&Recorded, usize) -> Answer + Send + Sync;

/// The platform. It shuts down when dropped.
#[derive(Debug)]
pub struct Scripted {
    addr: SocketAddr,
    state: Arc<State>,
    seen: watch::Receiver<usize>,
    up: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Scripted {
    /// Starts the platform on a free loopback port. Passes to `script` each request and the number of earlier requests
    /// of the same call.
    ///
    /// # Panics
    /// Panics if no port is available.
    pub async fn start(
        script: impl Fn(&Recorded, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(true, script).await
    }

    /// Starts the platform like [`start`](Self::start), but records requests only if `keep` is set.
    pub(crate) async fn start_with(
        keep: bool,
        script: impl Fn(&Recorded, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let reserved = reusable(([127, 0, 0, 1], 0).into()).expect("a loopback port");
        let addr = reserved.local_addr().expect("the port's address");
        let (count, seen) = watch::channel(0);
        let (up, is_up) = watch::channel(true);
        let state = Arc::new(State {
            requests: Mutex::default(),
            keep,
            counts: Mutex::default(),
            count,
            script: Box::new(script),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(reserved, addr, is_up, Arc::clone(&state)));
        Self {
            addr,
            state,
            seen,
            up,
            _tasks: tasks,
        }
    }

    /// If `up` is false, breaks all connections and refuses new ones. If it is true, serves again.
    pub fn set_up(&self, up: bool) {
        self.up.send_replace(up);
    }

    /// Returns the URL of the platform.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.addr)
    }

    /// Returns the port of the platform.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Returns the environment variables for a worker with this ID.
    #[must_use]
    pub fn env(&self, worker_id: &str) -> Vec<(&'static str, String)> {
        let base = format!("http://{}/v2/golden", self.addr);
        vec![
            (
                "RUNPOD_WEBHOOK_GET_JOB",
                format!("{base}/job-take/$ID?gpu=test"),
            ),
            (
                "RUNPOD_WEBHOOK_POST_OUTPUT",
                format!("{base}/job-done/$RUNPOD_POD_ID/$ID?gpu=test"),
            ),
            (
                "RUNPOD_WEBHOOK_POST_STREAM",
                format!("{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu=test"),
            ),
            ("RUNPOD_WEBHOOK_PING", format!("{base}/ping/$RUNPOD_POD_ID")),
            ("RUNPOD_PING_INTERVAL", "200".to_owned()),
            ("RUNPOD_POD_ID", worker_id.to_owned()),
            ("RUNPOD_ENDPOINT_ID", "golden".to_owned()),
            ("RUNPOD_AI_API_KEY", "golden-key".to_owned()),
            ("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true".to_owned()),
        ]
    }

    /// Returns all requests of one call so far.
    ///
    /// # Panics
    /// Panics if the script panicked.
    #[must_use]
    pub fn of(&self, call: &str) -> Vec<Recorded> {
        let requests = self
            .state
            .requests
            .lock()
            .expect("the script did not panic");
        requests
            .iter()
            .filter(|request| request.call() == call)
            .cloned()
            .collect()
    }

    /// Waits until `wanted` requests of one call have arrived.
    ///
    /// # Panics
    /// Panics if they do not arrive within a minute.
    pub async fn until_count(&self, call: &str, wanted: usize) {
        let mut seen = self.seen.clone();
        let waiting = async {
            while self.state.count(call) < wanted {
                seen.changed().await.expect("the platform runs");
            }
        };
        tokio::time::timeout(Duration::from_mins(1), waiting)
            .await
            .unwrap_or_else(|_| panic!("{call}: only {} within a minute", self.state.count(call)));
    }

    /// Waits until `done` returns true for the requests of one call, and returns them.
    ///
    /// # Panics
    /// Panics if it does not return true within a minute.
    pub async fn until(&self, call: &str, done: impl Fn(&[Recorded]) -> bool) -> Vec<Recorded> {
        let mut seen = self.seen.clone();
        let waiting = async {
            loop {
                let requests = self.of(call);
                if done(&requests) {
                    return requests;
                }
                seen.changed().await.expect("the platform runs");
            }
        };
        tokio::time::timeout(Duration::from_mins(1), waiting)
            .await
            .unwrap_or_else(|_| panic!("{call}: not met within a minute: {:#?}", self.of(call)))
    }
}

struct State {
    requests: Mutex<Vec<Recorded>>,
    keep: bool,
    /// The number of requests so far, by call.
    counts: Mutex<BTreeMap<String, usize>>,
    count: watch::Sender<usize>,
    script: Box<Script>,
}

impl State {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.counts.lock().expect("the script did not panic")
    }

    /// Returns the number of requests of one call so far.
    fn count(&self, call: &str) -> usize {
        self.counts().get(call).copied().unwrap_or(0)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// Binds a socket that does not listen yet. While it exists, no other program gets its port, and a connection to the
/// port is refused; another such socket can still listen on it.
fn reusable(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// Serves while the server is up. `_reserved` keeps the port meanwhile.
async fn serve(
    _reserved: TcpSocket,
    addr: SocketAddr,
    mut up: watch::Receiver<bool>,
    state: Arc<State>,
) {
    while up.wait_for(|up| *up).await.is_ok() {
        let bound = reusable(addr).and_then(|socket| socket.listen(1024));
        let bound = bound.expect("the port is reserved");
        tokio::select! {
            () = accept(bound, Arc::clone(&state)) => {}
            gone = up.wait_for(|up| !*up) => if gone.is_err() { return },
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(|request| answer(&state, request));
            let http = hyper::server::conn::http1::Builder::new();
            // An error means that the client or the script broke the connection.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Reply = Response<BoxBody<Bytes, io::Error>>;

async fn answer(state: &State, request: Request<Incoming>) -> io::Result<Reply> {
    let recorded = record(request).await?;
    let before = {
        let mut counts = state.counts();
        let count = counts.entry(recorded.call().to_owned()).or_default();
        *count += 1;
        *count - 1
    };
    let mut answer = (state.script)(&recorded, before);
    if state.keep {
        let mut requests = state.requests.lock().expect("the script did not panic");
        requests.push(recorded);
    }
    state.count.send_modify(|count| *count += 1);
    loop {
        answer = match answer {
            Answer::When(mut gate, then) => {
                // If the sender is dropped, the value can never become true, so this waits forever.
                if gate.wait_for(|open| *open).await.is_err() {
                    std::future::pending::<()>().await;
                }
                *then
            }
            Answer::After(delay, then) => {
                tokio::time::sleep(delay).await;
                *then
            }
            at_once => break written(at_once).await,
        }
    }
}

async fn written(answer: Answer) -> io::Result<Reply> {
    let bytes = |body: Vec<u8>| {
        Full::new(Bytes::from(body))
            .map_err(|never| match never {})
            .boxed()
    };
    let full = |text: String| bytes(text.into_bytes());
    let response = Response::builder();
    let response = match answer {
        Answer::Json(status, body) => response
            .status(status)
            .header("Content-Type", "application/json")
            .body(full(body.to_string())),
        Answer::Raw(status, headers, body) => headers
            .into_iter()
            .fold(response.status(status), |response, (name, value)| {
                response.header(name, value)
            })
            .body(bytes(body)),
        Answer::Status(status) => response.status(status).body(full(String::new())),
        Answer::RetryAfter(status, seconds) => response
            .status(status)
            .header("Retry-After", seconds)
            .body(full(String::new())),
        Answer::Torn => {
            let parts = [
                Ok(Frame::data(Bytes::from_static(b"{"))),
                Err(io::Error::other("the script truncates this response")),
            ];
            response
                .header("Content-Length", 100)
                .body(BodyExt::boxed(StreamBody::new(futures::stream::iter(
                    parts,
                ))))
        }
        Answer::Drop => return Err(io::Error::other("the script drops this connection")),
        Answer::Hold | Answer::When(..) | Answer::After(..) => {
            match std::future::pending::<Infallible>().await {}
        }
    };
    response.map_err(io::Error::other)
}

async fn record(request: Request<Incoming>) -> io::Result<Recorded> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty());
    let header =
        |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Ok(Recorded {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decode(name), decode(value)))
            .collect(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), header(value)))
            .collect(),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}
