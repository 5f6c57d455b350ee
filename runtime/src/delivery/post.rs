//! Delivery: posts the contents of a job's outbox in order.

use std::future::{Future, pending};
use std::time::Duration;

use bytes::Bytes;
use podwork_protocol::RawValue;
use podwork_protocol::worker::Post;
use serde_json::Value;
use tokio::time::Instant;
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::delivery::outbox::{Final, Message, Outbox};
use crate::error::handler_error::Identity;
use crate::error::{HandlerError, JobOutcome};
use crate::net::backoff::Backoff;
use crate::platform_client::{Body, CallError, Posts};
use crate::telemetry::{JobTelemetry, PostFate, PostKind};
use crate::threads::guarded;

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// The longest time that one attempt counts. It is longer than the timeout of a call.
const LONGEST_CALL: Duration = Duration::from_mins(3);
/// The space reserved for the rest of a post around its output, in bytes.
const ENVELOPE: usize = 128;
/// The largest output that is copied into its post, in bytes. Sending a small output without a copy would cost more
/// than the copy.
const MOST_COPIED: usize = 32 * 1024;

/// The delivery of jobs, shared by all jobs of a worker.
#[derive(Debug, Clone)]
pub(crate) struct Delivery<P> {
    pub(crate) api: P,
    pub(crate) identity: Identity,
    /// Error results contain the host name and the causes.
    pub(crate) error_details: bool,
    /// The time limit for one post, retries included.
    pub(crate) deadline: Duration,
}

impl<P: Posts> Delivery<P> {
    /// Posts the contents of the outbox until the final result is settled. Returns the outcome of the job. A panic
    /// fails the job.
    pub(crate) async fn run(
        &self,
        job_id: &str,
        outbox: &Outbox,
        telemetry: &JobTelemetry,
    ) -> JobOutcome {
        let why = match guarded(self.post_all(job_id, outbox, telemetry)).await {
            Ok(outcome) => return outcome,
            Err(why) => why,
        };
        outbox.close();
        let last = Final {
            outcome: Err(HandlerError::panicked(why)),
            refresh: false,
        };
        let failing = async {
            error!("The delivery of the job panicked; failing the job.");
            self.result(job_id, outbox, last, telemetry).await
        };
        guarded(failing).await.unwrap_or(JobOutcome::Refused)
    }

    async fn post_all(
        &self,
        job_id: &str,
        outbox: &Outbox,
        telemetry: &JobTelemetry,
    ) -> JobOutcome {
        // Created for the first chunk, because most jobs have no chunks.
        let mut run = None;
        let mut chunks: u64 = 0;
        // Set when the platform rejects a chunk. It becomes the job's error.
        let mut refusal = None;
        let mut progress = LatestProgress::new();
        loop {
            let message = tokio::select! {
                biased;
                () = progress.due() => {
                    self.progress(job_id, &mut progress, telemetry).await;
                    continue;
                }
                message = outbox.next() => message,
            };
            match message {
                Message::Progress(value) => {
                    progress.drop_value(telemetry);
                    progress.value = Some(encode(Post::from_progress(value)));
                }
                Message::Chunk(_) if refusal.is_some() => {}
                Message::Chunk(chunk) => {
                    chunks += 1;
                    let key = format!("{}-{chunks}", run.get_or_insert_with(Uuid::new_v4));
                    if let Err(failure) = self.chunk(job_id, &key, chunk, telemetry).await {
                        outbox.close();
                        progress.drop_value(telemetry);
                        refusal = Some(failure);
                    }
                }
                Message::Final(last) => {
                    progress.drop_value(telemetry);
                    let outcome = refusal.map_or(last.outcome, Err);
                    let last = Final { outcome, ..last };
                    return self.result(job_id, outbox, last, telemetry).await;
                }
            }
        }
    }

    /// Posts the latest progress once. If that fails, it is due again later.
    async fn progress(
        &self,
        job_id: &str,
        progress: &mut LatestProgress,
        telemetry: &JobTelemetry,
    ) {
        let Some(body) = progress.value.clone() else {
            return;
        };
        if progress.retries.spent > Duration::ZERO {
            telemetry.retried(PostKind::Progress);
        }
        let post = self.api.post_result(job_id, false, body);
        let tried = self
            .attempt(PostKind::Progress, telemetry, &mut progress.retries, post)
            .await;
        match tried {
            Tried::Later(delay) => {
                progress.not_before = Instant::now() + delay;
                return;
            }
            Tried::Ended(Ok(())) => progress.retries.backoff.reset(),
            Tried::Ended(Err(why)) => debug!(error = %why, "Progress update was not delivered."),
        }
        progress.value = None;
        progress.retries.spent = Duration::ZERO;
    }

    async fn chunk(
        &self,
        job_id: &str,
        key: &str,
        chunk: Box<RawValue>,
        telemetry: &JobTelemetry,
    ) -> Result<(), HandlerError> {
        let body = encode(Post::from_output(chunk));
        let post = || self.api.post_chunk(job_id, key, body.clone());
        self.persist(PostKind::Chunk, telemetry, post)
            .await
            .map_err(|why| HandlerError::chunk_refused(&why))
    }

    async fn result(
        &self,
        job_id: &str,
        outbox: &Outbox,
        last: Final,
        telemetry: &JobTelemetry,
    ) -> JobOutcome {
        let streams = outbox.streams();
        let failure = last.outcome.as_ref().err();
        let outcome = failure.map_or(JobOutcome::Completed, HandlerError::outcome);
        let sent = self
            .send_result(job_id, streams, last.outcome, last.refresh, telemetry)
            .await;
        let Err(why) = sent else { return outcome };
        error!(error = %why, "Failed to deliver the job's result.");
        if outcome == JobOutcome::Completed {
            // Posts a small error in place of the rejected output. Otherwise, the job would hang until it times out.
            let refusal = Err(HandlerError::result_refused(&why));
            let sent = self
                .send_result(job_id, streams, refusal, last.refresh, telemetry)
                .await;
            if let Err(why) = sent {
                error!(error = %why, "Failed to deliver the error that replaces the result.");
            }
        }
        JobOutcome::Refused
    }

    async fn send_result(
        &self,
        job_id: &str,
        streams: bool,
        outcome: Result<Box<RawValue>, HandlerError>,
        stop_pod: bool,
        telemetry: &JobTelemetry,
    ) -> Result<(), String> {
        let post = result_post(outcome, stop_pod, &self.identity, self.error_details);
        let body = encode(post);
        let post = || self.api.post_result(job_id, streams, body.clone());
        self.persist(PostKind::Result, telemetry, post).await
    }

    /// Repeats a call until it succeeds, or until it is rejected permanently or exceeds the deadline.
    ///
    /// # Errors
    /// Returns why the call did not succeed.
    async fn persist<F>(
        &self,
        kind: PostKind,
        telemetry: &JobTelemetry,
        mut call: impl FnMut() -> F,
    ) -> Result<(), String>
    where
        F: Future<Output = Result<(), CallError>>,
    {
        let mut retries = Retries::new();
        loop {
            match self.attempt(kind, telemetry, &mut retries, call()).await {
                Tried::Ended(result) => return result,
                Tried::Later(delay) => tokio::time::sleep(delay).await,
            }
            telemetry.retried(kind);
        }
    }

    /// Makes a call once.
    async fn attempt(
        &self,
        kind: PostKind,
        telemetry: &JobTelemetry,
        retries: &mut Retries,
        call: impl Future<Output = Result<(), CallError>>,
    ) -> Tried {
        let began = Instant::now();
        let answer = call.await;
        retries.spent += began.elapsed().min(LONGEST_CALL);
        match answer {
            Ok(()) => {
                telemetry.posted(kind, PostFate::Accepted);
                Tried::Ended(Ok(()))
            }
            Err(CallError::Refused { why, .. }) => {
                telemetry.posted(kind, PostFate::Refused);
                Tried::Ended(Err(why))
            }
            Err(CallError::Retryable { why, after }) => {
                let delay = retries.backoff.next(after);
                retries.spent += delay;
                if retries.spent > self.deadline {
                    telemetry.posted(kind, PostFate::GivenUp);
                    let why = format!("{why}; gave up after {:?}", self.deadline);
                    return Tried::Ended(Err(why));
                }
                warn!(
                    ?kind,
                    delay_ms = delay.as_millis(),
                    error = %why,
                    "Post failed; retrying."
                );
                Tried::Later(delay)
            }
        }
    }
}

/// The result of one attempt to post.
enum Tried {
    /// The post was accepted, or will not be.
    Ended(Result<(), String>),
    /// It failed. The next attempt has to wait for this time.
    Later(Duration),
}

/// The attempts at a post so far.
struct Retries {
    /// The time spent. Time during which the process was stopped does not count, because it had no chance to post.
    spent: Duration,
    backoff: Backoff,
}

impl Retries {
    fn new() -> Self {
        Self {
            spent: Duration::ZERO,
            backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY),
        }
    }
}

/// The latest progress of a job. A newer value replaces it, but must not shorten the pause after a failed attempt.
struct LatestProgress {
    /// The body of its post, if it still has to be posted.
    value: Option<Body>,
    /// `spent` is that of the value. The delays continue with a newer value.
    retries: Retries,
    not_before: Instant,
}

impl LatestProgress {
    fn new() -> Self {
        Self {
            value: None,
            retries: Retries::new(),
            not_before: Instant::now(),
        }
    }

    /// Waits until there is a value to post, and the pause is over.
    async fn due(&self) {
        if self.value.is_none() {
            pending::<()>().await;
        }
        if self.not_before > Instant::now() {
            tokio::time::sleep_until(self.not_before).await;
        }
    }

    /// Drops the value, because a newer message replaces it.
    fn drop_value(&mut self, telemetry: &JobTelemetry) {
        if self.value.take().is_some() {
            telemetry.posted(PostKind::Progress, PostFate::Outdated);
        }
        self.retries.spent = Duration::ZERO;
    }
}

/// Returns the post of a job's result. An error is encoded as JSON text in a string, with the host name and the causes
/// if `details` is set.
pub(crate) fn result_post(
    outcome: Result<Box<RawValue>, HandlerError>,
    stop_pod: bool,
    identity: &Identity,
    details: bool,
) -> Post {
    let mut post = match outcome {
        Ok(output) => Post::from_output(output),
        Err(failure) => {
            let report = failure.report(identity, details);
            // A struct of strings always serializes.
            let text = serde_json::to_string(&report).unwrap_or_default();
            Post::from_error(Value::String(text))
        }
    };
    post.stop_pod = stop_pod;
    post
}

/// Encodes a post as JSON, without copying a large output.
fn encode(mut post: Post) -> Body {
    let large = post
        .output
        .take_if(|output| output.get().len() > MOST_COPIED);
    let small = post.output.as_ref().map_or(0, |output| output.get().len());
    let mut text = Vec::with_capacity(small + ENVELOPE);
    serde_json::to_writer(&mut text, &post).expect("raw JSON and strings always serialize");
    let Some(output) = large else {
        return text.into();
    };
    let rest = &text[1..];
    let comma: &[u8] = if rest == b"}" { b"" } else { b"," };
    let output = Box::<str>::from(output).into_string();
    [
        Bytes::from_static(b"{\"output\":"),
        output.into(),
        [comma, rest].concat().into(),
    ]
    .into()
}

#[cfg(test)]
mod tests;
