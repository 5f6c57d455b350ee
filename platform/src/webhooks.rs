//! Webhooks: who asked to be called when a job has ended is called.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

/// Further tries of a call that was not answered with 200, and the pause before each: the documented ones.
const MORE_TRIES: usize = 2;
const PAUSE: Duration = Duration::from_secs(10);
/// Longest that one try may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most calls that wait to be made.
const MOST_WAITING: usize = 10_000;
/// Most calls on their way at once, pauses included.
const MOST_AT_ONCE: usize = 256;

/// One call to be made.
pub(crate) struct Call {
    pub(crate) job_id: String,
    pub(crate) url: String,
    /// The body, as it is when the call is made; `None` when the job is gone by then.
    pub(crate) body: Box<dyn Fn() -> Option<Bytes> + Send + Sync>,
}

/// Makes the calls, beside all else.
#[derive(Debug, Clone)]
pub(crate) struct Webhooks(mpsc::Sender<Call>);

impl Webhooks {
    /// Starts making calls, until `closing`.
    pub(crate) fn start(closing: CancellationToken) -> Self {
        let (calls, waiting) = mpsc::channel(MOST_WAITING);
        tokio::spawn(async move {
            let poster = Arc::new(Http::default());
            closing.run_until_cancelled(make(waiting, poster)).await;
        });
        Self(calls)
    }

    /// Has a call made.
    pub(crate) fn call(&self, call: Call) {
        if let Err(refused) = self.0.try_send(call) {
            let Call { job_id, url, .. } = refused.into_inner();
            error!(
                "job {job_id}: {url} is not called, since {MOST_WAITING} calls wait, or the platform is shutting down"
            );
        }
    }
}

/// Posts one body.
trait Poster: Send + Sync + 'static {
    fn post(&self, url: &str, body: Bytes) -> impl Future<Output = Result<(), String>> + Send;
}

async fn make(mut waiting: mpsc::Receiver<Call>, poster: Arc<impl Poster>) {
    let mut calls = JoinSet::new();
    while let Some(call) = waiting.recv().await {
        while calls.try_join_next().is_some() {}
        if calls.len() >= MOST_AT_ONCE {
            calls.join_next().await;
        }
        let poster = Arc::clone(&poster);
        calls.spawn(async move { try_call(&*poster, call).await });
    }
}

async fn try_call(poster: &impl Poster, call: Call) {
    let Call { job_id, url, body } = call;
    for pause in [Duration::ZERO].into_iter().chain([PAUSE; MORE_TRIES]) {
        tokio::time::sleep(pause).await;
        let Some(body) = body() else {
            warn!("job {job_id} is gone before {url} could be told of its end");
            return;
        };
        match poster.post(&url, body).await {
            Ok(()) => return debug!("job {job_id}: {url} was told of its end"),
            Err(why) => warn!("job {job_id}: {url} could not be told of its end: {why}"),
        }
    }
    error!("job {job_id}: {url} is not called again");
}

/// Posts by HTTP; the client is made when it is first needed.
#[derive(Debug, Default)]
struct Http(OnceCell<reqwest::Client>);

impl Poster for Http {
    async fn post(&self, url: &str, body: Bytes) -> Result<(), String> {
        let client = async || {
            // An error means that the program has chosen a provider itself.
            let _ = rustls::crypto::ring::default_provider().install_default();
            reqwest::Client::builder().timeout(TIMEOUT).build()
        };
        let client = self.0.get_or_try_init(client).await;
        let client = client.map_err(|error| error.to_string())?;
        let request = client
            .post(url)
            .header("Content-Type", "application/json")
            .body(body);
        let response = request.send().await.map_err(|error| error.to_string())?;
        match response.status() {
            reqwest::StatusCode::OK => Ok(()),
            status => Err(format!("it answers {status}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    /// Answers as told, and notes when it was called.
    struct Scripted {
        answers: Mutex<Vec<Result<(), String>>>,
        calls: mpsc::UnboundedSender<(Instant, Bytes)>,
    }

    impl Poster for Scripted {
        async fn post(&self, _: &str, body: Bytes) -> Result<(), String> {
            self.calls.send((Instant::now(), body)).unwrap();
            self.answers.lock().unwrap().remove(0)
        }
    }

    /// The seconds at which a call is made when these are the answers.
    async fn seconds(answers: Vec<Result<(), String>>) -> Vec<u64> {
        let (calls, mut called) = mpsc::unbounded_channel();
        let poster = Scripted {
            answers: Mutex::new(answers),
            calls,
        };
        let started = Instant::now();
        let call = Call {
            job_id: "j".to_owned(),
            url: "http://h/".to_owned(),
            body: Box::new(|| Some(Bytes::from_static(b"{}"))),
        };
        try_call(&poster, call).await;
        drop(poster);
        let mut seconds = Vec::new();
        while let Some((at, body)) = called.recv().await {
            assert_eq!(body, "{}");
            seconds.push((at - started).as_secs());
        }
        seconds
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_is_made_twice_more_10_seconds_apart() {
        let no = || Err("it answers 503".to_owned());
        assert_eq!(seconds(vec![Ok(())]).await, [0]);
        assert_eq!(seconds(vec![no(), Ok(())]).await, [0, 10]);
        assert_eq!(seconds(vec![no(), no(), no()]).await, [0, 10, 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_is_gone_is_not_told_of() {
        let (calls, mut called) = mpsc::unbounded_channel();
        let poster = Scripted {
            answers: Mutex::default(),
            calls,
        };
        let call = Call {
            job_id: "j".to_owned(),
            url: "http://h/".to_owned(),
            body: Box::new(|| None),
        };
        try_call(&poster, call).await;
        drop(poster);
        assert!(called.recv().await.is_none());
    }
}
