//! Delivery of webhook calls, at least once, when a job has ended.
//!
//! Calls are in the store: the commit that ends a job writes its call, and the call is removed once it is delivered or
//! given up. Each call has an id that is the same for all tries, so that a receiver can recognize duplicates.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use reqwest::Url;
use ring::digest::{SHA256, digest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{debug, error, warn};

use crate::answers::webhook_text;
use crate::clock::Clock;
use crate::engine::WebhookCall;
use crate::rules::Rules;
use crate::store::Store;
use crate::waiters::Waiters;
use crate::webhook_client::WebhookClient;

/// The maximum number of concurrent calls of a platform.
const MOST_AT_ONCE: usize = 256;
/// The interval after which the store is checked for calls even without a notification.
const RECHECK: Duration = Duration::from_secs(5);

/// Makes the webhook calls of all endpoints of a platform.
#[derive(Debug, Clone)]
pub(crate) struct Webhooks {
    poster: Arc<WebhookClient>,
    permits: Arc<Semaphore>,
}

impl Webhooks {
    /// Creates the caller, which sends calls with this client.
    pub(crate) fn new(client: WebhookClient) -> Self {
        Self {
            poster: Arc::new(client),
            permits: Arc::new(Semaphore::new(MOST_AT_ONCE)),
        }
    }

    /// Makes the calls in the store.
    pub(crate) async fn make_calls(
        &self,
        store: &impl Store,
        waiters: &Waiters,
        clock: &Clock,
        rules: &Rules,
    ) -> Infallible {
        make_calls(&*self.poster, &self.permits, store, waiters, clock, rules).await
    }
}

/// Sends one try of a call.
trait Poster: Send + Sync + 'static {
    fn post(
        &self,
        url: &str,
        id: &str,
        traceparent: &str,
        body: Bytes,
    ) -> impl Future<Output = Result<(), String>> + Send;
}

async fn make_calls(
    poster: &impl Poster,
    permits: &Arc<Semaphore>,
    store: &impl Store,
    waiters: &Waiters,
    clock: &Clock,
    rules: &Rules,
) -> Infallible {
    let mut tries = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(()) = tries.next() => {}
            (permit, call) = claim_call(permits, store, waiters, clock) => {
                tries.push(async move {
                    try_call(poster, store, &call, rules).await;
                    drop(permit);
                });
            }
        }
    }
}

/// Waits for a call that is due, and leases it, so that no other task makes it at the same time.
async fn claim_call(
    permits: &Arc<Semaphore>,
    store: &impl Store,
    waiters: &Waiters,
    clock: &Clock,
) -> (Option<OwnedSemaphorePermit>, Arc<WebhookCall>) {
    loop {
        let changed = waiters.call.notified();
        let due = async {
            let call = store.first_call().await;
            let Some(call) = call else {
                return std::future::pending().await;
            };
            clock.sleep_until(call.due).await;
            // An error means that the semaphore is closed, which it never is.
            let permit = Arc::clone(permits).acquire_owned().await.ok();
            let claimed = Arc::new(call.claim(store.now())?);
            let committed = store.commit_call(&call, Some(Arc::clone(&claimed)));
            committed.await.ok().map(|()| (permit, claimed))
        };
        tokio::select! {
            // `None`: another task claimed the call first.
            Some(claimed) = due => return claimed,
            _ = timeout(RECHECK, changed) => {}
        }
    }
}

async fn try_call(poster: &impl Poster, store: &impl Store, call: &WebhookCall, rules: &Rules) {
    let (job_id, url) = (&*call.job.id, without_secrets(&call.url));
    let ended = guarded(async {
        let body = webhook_text(call, rules).into_bytes();
        let trace = traceparent(call);
        poster.post(&call.url, &call.id, &trace, body).await
    });
    // A panic is a failed try: the lookup of a name panics if the system refuses to start a thread.
    let after = match ended.await.unwrap_or_else(Err) {
        Ok(()) => {
            debug!(job_id, url, "Webhook delivered.");
            None
        }
        Err(error) => {
            warn!(job_id, url, error, "Webhook call failed.");
            let next = call.fail(store.now(), &rules.webhook_pauses);
            if next.is_none() {
                error!(job_id, url, "Giving up the webhook call.");
            }
            next
        }
    };
    // A conflict means that the try outlived its lease and another task makes the call now.
    let _ = store.commit_call(call, after.map(Arc::new)).await;
}

/// Returns the scheme, host and port of a URL. Its other parts may be secret; in the URLs of chat services, the path is.
fn without_secrets(url: &str) -> String {
    Url::parse(url).map_or_else(
        |_| "an invalid URL".to_owned(),
        |url| {
            let path = if url.path() == "/" { "/" } else { "/…" };
            url.origin().ascii_serialization() + path
        },
    )
}

/// Waits for a future. A panic is an error, which contains its message.
pub(crate) async fn guarded<F: Future>(future: F) -> Result<F::Output, String> {
    let ended = AssertUnwindSafe(future).catch_unwind().await;
    ended.map_err(|payload: Box<dyn Any + Send>| {
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        format!("panicked: {}", message.unwrap_or("no message"))
    })
}

impl Poster for WebhookClient {
    async fn post(
        &self,
        url: &str,
        id: &str,
        traceparent: &str,
        body: Bytes,
    ) -> Result<(), String> {
        Self::post(self, url, id, traceparent, body).await
    }
}

/// Returns the trace context of a try, as W3C Trace Context describes it: the trace is that of the call, the span that of
/// the try. Both are derived from the call's id, so that a call whose maker is gone keeps its trace.
fn traceparent(call: &WebhookCall) -> String {
    let trace = digest(&SHA256, call.id.as_bytes());
    let span = format!("{}.{}", call.id, call.version);
    let span = digest(&SHA256, span.as_bytes());
    // A digest has 32 bytes, so both parts are there.
    let trace = trace
        .as_ref()
        .first_chunk()
        .map_or(0, |id| u128::from_be_bytes(*id));
    let span = span
        .as_ref()
        .first_chunk()
        .map_or(0, |id| u64::from_be_bytes(*id));
    format!("00-{trace:032x}-{span:016x}-01")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use podwork_protocol::limits;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;
    use crate::endpoint::{Endpoint, NewResult};
    use crate::engine::Submission;
    use crate::store::Memory;

    /// The scripted result of a try that panics.
    const PANIC: &str = "panic";

    /// Returns scripted results, and records each call.
    struct Scripted {
        answers: Mutex<Vec<Result<(), String>>>,
        calls: mpsc::UnboundedSender<(Instant, String, Bytes)>,
    }

    impl Poster for Scripted {
        async fn post(&self, _: &str, id: &str, _: &str, body: Bytes) -> Result<(), String> {
            let call = (Instant::now(), id.to_owned(), body);
            self.calls.send(call).unwrap();
            let answer = self.answers.lock().unwrap().remove(0);
            assert_ne!(answer, Err(PANIC.to_owned()), "no thread");
            answer
        }
    }

    /// Creates an endpoint with a job that has ended.
    async fn ended_job(clock: &Clock) -> (Endpoint, Arc<Waiters>) {
        let waiters = Arc::<Waiters>::default();
        let store = Memory::new(clock.clone(), Arc::clone(&waiters));
        let endpoint = Endpoint::new(Arc::default(), store);
        let submission = Submission {
            id: "j".into(),
            input: "{ }".into(),
            extra: Bytes::new(),
            execution_timeout: limits::DEFAULT_EXECUTION_TIMEOUT,
            ttl: limits::DEFAULT_TTL,
            retention: Duration::from_secs(1),
            webhook: Some("http://h/".to_owned()),
        };
        endpoint.submit(submission).await.unwrap();
        endpoint.take("w", 1).await;
        let result = NewResult {
            is_progress: false,
            output: Some("{}".into()),
            error: None,
            stop_pod: false,
        };
        endpoint.post("w", "j", result).await.unwrap();
        (endpoint, waiters)
    }

    /// Returns the seconds at which a call is made under these rules if its tries have these results.
    async fn seconds(rules: &str, answers: Vec<Result<(), String>>) -> Vec<u64> {
        let rules = rules.parse().unwrap();
        let clock = Clock::new();
        let (endpoint, waiters) = ended_job(&clock).await;
        // The job itself expires long before the last try.
        clock.advance(Duration::from_secs(2));
        endpoint.expire().await;
        let (calls, mut called) = mpsc::unbounded_channel();
        let poster = Scripted {
            answers: Mutex::new(answers),
            calls,
        };
        let started = Instant::now();
        let (permits, store) = (Arc::new(Semaphore::new(1)), endpoint.store());
        let making = make_calls(&poster, &permits, store, &waiters, &clock, &rules);
        // Time is paused: by then nothing is left to do.
        let _ = timeout(Duration::from_hours(1), making).await;
        assert!(store.first_call().await.is_none());
        drop(poster);
        let mut seconds = Vec::new();
        while let Some((at, id, body)) = called.recv().await {
            assert_eq!(id, "j.3", "the same for each try");
            let end = br#""output":{},"input":{ },"webhook":"http://h/"}"#;
            assert!(body.ends_with(end), "{body:?}");
            seconds.push((at - started).as_secs());
        }
        seconds
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_webhook_call_is_retried_twice_10_seconds_apart() {
        let no = || Err("unexpected status 503".to_owned());
        assert_eq!(seconds("", vec![Ok(())]).await, [0]);
        assert_eq!(seconds("", vec![no(), Ok(())]).await, [0, 10]);
        assert_eq!(seconds("", vec![no(), no(), no()]).await, [0, 10, 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhook_try_that_panics_is_a_failed_try() {
        let panics = || Err(PANIC.to_owned());
        assert_eq!(seconds("", vec![panics(), Ok(())]).await, [0, 10]);
        let three = vec![panics(), panics(), panics()];
        assert_eq!(seconds("", three).await, [0, 10, 20]);
    }

    #[tokio::test]
    async fn a_caught_panic_is_an_error_with_its_message() {
        assert_eq!(guarded(async { 1 }).await, Ok(1));
        let failed: Result<(), _> = guarded(async { panic!("no {}", "thread") }).await;
        assert_eq!(failed, Err("panicked: no thread".to_owned()));
    }

    #[test]
    fn the_logged_url_of_a_webhook_has_no_secrets() {
        for (url, logged) in [
            ("http://u:pw@h:81/x?token=SECRET#part", "http://h:81/…"),
            ("https://pw@h/x/y/?a", "https://h/…"),
            ("https://h", "https://h/"),
            ("https://h/services/T0/B0/SECRET", "https://h/…"),
            ("http://[::1]:8000/x", "http://[::1]:8000/…"),
            ("/x?token=SECRET", "an invalid URL"),
        ] {
            assert_eq!(without_secrets(url), logged);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_pauses_between_webhook_tries_can_be_set() {
        let no = || Err("unexpected status 503".to_owned());
        let three = || vec![no(), no(), no()];
        assert_eq!(seconds("current", three()).await, [0, 5, 20]);
        assert_eq!(
            seconds("webhook_pauses=1m", vec![no(), no()]).await,
            [0, 60]
        );
        assert_eq!(seconds("webhook_pauses=", vec![no()]).await, [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_tries_of_a_webhook_call_share_a_trace() {
        let clock = Clock::new();
        let (endpoint, _) = ended_job(&clock).await;
        let call = endpoint.store().first_call().await.unwrap();
        let next = call.fail(clock.now(), &[Duration::ZERO]).unwrap();
        let (one, two) = (traceparent(&call), traceparent(&next));
        let parts =
            |text: &str| -> Vec<String> { text.split('-').map(ToOwned::to_owned).collect() };
        let (one, two) = (parts(&one), parts(&two));
        assert_eq!(
            (one[0].as_str(), one[1].len(), one[2].len(), one[3].as_str()),
            ("00", 32, 16, "01")
        );
        assert_eq!(one[1], two[1]);
        assert_ne!(one[2], two[2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhook_call_is_retried_if_its_sender_disappears() {
        let clock = Clock::new();
        let (endpoint, waiters) = ended_job(&clock).await;
        let (permits, store) = (Arc::new(Semaphore::new(1)), endpoint.store());
        // The call is claimed, but its outcome is never recorded.
        let (_, claimed) = claim_call(&permits, store, &waiters, &clock).await;
        let started = Instant::now();
        let (_, again) = claim_call(&permits, store, &waiters, &clock).await;
        assert_eq!((&again.id, again.failed), (&claimed.id, 0));
        assert_eq!(started.elapsed().as_secs(), 15);
        // The first claim is no longer valid.
        assert!(store.commit_call(&claimed, None).await.is_err());
    }
}
