//! A whole worker in a test, on its own local platform.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use podwork_platform::{JobEvent, Platform, Rules, RunRequest, StatusResponse};
use podwork_protocol::worker::ErrorReport;
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::error::HandlerError;
use crate::handler::Handler;
use crate::handler::state::StateSource;
use crate::launch::Worker;

use super::{Tested, parse, raw};

/// The time for which the platform of a test holds a poll open. A worker that shuts down waits for its open poll.
const POLL_HOLD: Duration = Duration::from_millis(50);

/// A worker that runs in a test, and the local platform that it polls. It runs as it does on the platform, except that
/// fitness checks are skipped.
///
/// ```
/// use podwork::testing::TestWorker;
/// use podwork::{Worker, handler};
/// use serde_json::json;
///
/// #[handler]
/// async fn greet(name: String) -> String {
///     format!("Hello, {name}!")
/// }
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let worker = TestWorker::start(Worker::new::<greet>().concurrency(2)).await?;
/// let job = worker.run(json!("Ada")).await?;
/// assert_eq!(job.result.unwrap(), json!("Hello, Ada!"));
/// worker.stop().await?;
/// # Ok::<(), podwork::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct TestWorker {
    platform: Platform,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), Error>>,
    /// The worker has ended.
    gone: CancellationToken,
}

impl TestWorker {
    /// Starts a worker on a platform with the documented limits, on the test's tokio runtime.
    ///
    /// # Errors
    /// Returns an error if no port is available.
    pub async fn start<H: Handler, S: StateSource<H::State>>(
        worker: Worker<H, S>,
    ) -> Result<Self, Error> {
        let mut rules = Rules::default();
        rules.poll_hold = POLL_HOLD;
        let platform = Platform::builder().rules(rules).start().await?;
        Ok(Self::start_on(platform, worker))
    }

    /// Starts a worker on this platform, which may have limits or faults of its own. With a short
    /// [`poll_hold`](super::Rules::poll_hold) the worker shuts down sooner.
    pub fn start_on<H: Handler, S: StateSource<H::State>>(
        platform: Platform,
        worker: Worker<H, S>,
    ) -> Self {
        let worker = worker.env(platform.worker_env("test")).at_home();
        let gone = CancellationToken::new();
        let guard = gone.clone().drop_guard();
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            // A dropped sender stops the worker, too.
            let _ = stopped.await;
        };
        Self {
            platform,
            stop,
            ended: tokio::spawn(async move {
                let _gone = guard;
                worker.serve(stopped).await
            }),
            gone,
        }
    }

    /// Returns the platform, for example to submit jobs, follow or cancel them, or set its clock ahead.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Runs a job with this input and waits until it ends.
    ///
    /// # Errors
    /// Returns an error if the platform rejects the job, or if the worker or the platform ends before the job does.
    /// [`stop`](Self::stop) then returns the error with which the worker ended.
    pub async fn run(&self, input: Value) -> Result<Tested, Error> {
        let job = self.gone.run_until_cancelled(self.run_to_end(input));
        job.await.unwrap_or(Err(Error::TestJob {
            status: "its worker has ended",
        }))
    }

    async fn run_to_end(&self, input: Value) -> Result<Tested, Error> {
        let id = self.platform.submit(RunRequest::new(raw(&input)))?;
        let (mut outputs, mut progress) = (Vec::new(), Vec::new());
        let mut events = pin!(self.platform.follow(&id));
        while let Some(event) = events.next().await {
            match event {
                JobEvent::Chunk(chunk) => outputs.push(parse(&chunk)),
                JobEvent::Progress(update) => progress.push(parse(&update)),
                JobEvent::Finished(status) => {
                    return Ok(Tested {
                        outputs,
                        progress,
                        result: result(status),
                        refresh: false,
                    });
                }
                // The job was requeued: drop what the earlier run yielded.
                JobEvent::Queued => {
                    outputs.clear();
                    progress.clear();
                }
                _ => {}
            }
        }
        Err(Error::TestJob {
            status: "its platform has ended",
        })
    }

    /// Shuts the worker down, as SIGTERM does, and waits until it has ended.
    ///
    /// # Errors
    /// Returns the error with which the worker ended, if any.
    ///
    /// # Panics
    /// Panics if the worker panicked, which is a bug in this crate.
    pub async fn stop(self) -> Result<(), Error> {
        // Fails if the worker has already ended.
        let _ = self.stop.send(());
        self.ended.await.expect("the worker does not panic")
    }
}

/// Returns the outcome of a job, from its last status.
fn result(status: StatusResponse) -> Result<Value, HandlerError> {
    let Some(error) = status.error else {
        return match status.output {
            Some(output) => Ok(parse(&output)),
            None => Err(HandlerError::new(
                status.status.as_str(),
                format!("the job ended with status {}", status.status),
            )),
        };
    };
    let text = error
        .as_str()
        .map_or_else(|| error.to_string(), ToOwned::to_owned);
    let report: Result<ErrorReport, _> = serde_json::from_str(&text);
    Err(match report {
        Ok(report) => HandlerError::new(report.error_type, report.error_message),
        Err(_) => HandlerError::new(status.status.as_str(), text),
    })
}
