//! Delivery: one job's outbox, emptied in order into posts.

use std::future::{Future, pending};
use std::time::Duration;

use bytes::Bytes;
use podwork_protocol::worker::Post;
use podwork_protocol::{JobStatus, RawValue};
use serde_json::Value;
use tokio::time::Instant;
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::delivery::outbox::{Final, Message, Outbox};
use crate::error::handler_error::{HandlerError, Identity};
use crate::net::backoff::Backoff;
use crate::net::http::Body;
use crate::platform_client::{Posts, Trouble};
use crate::telemetry::{Kind, PostNotes, Posted};

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Room for what surrounds an output in a post, in bytes.
const ENVELOPE: usize = 128;
/// The largest output that is copied into its post, in bytes; one that is sent by itself costs more work.
const MOST_COPIED: usize = 32 * 1024;

/// How jobs are delivered; the same for all jobs of a worker.
#[derive(Debug, Clone)]
pub(crate) struct Delivery<P> {
    pub(crate) api: P,
    pub(crate) identity: Identity,
    /// Error results carry host name and causes.
    pub(crate) error_details: bool,
    /// The handler yields chunks.
    pub(crate) streams: bool,
    /// How long one post is tried.
    pub(crate) deadline: Duration,
}

impl<P: Posts> Delivery<P> {
    /// Posts all that comes into the outbox, and returns when the final is settled; whether the job is completed: its
    /// output was accepted.
    pub(crate) async fn run(&self, job_id: &str, outbox: &Outbox, notes: &PostNotes) -> bool {
        // Made for the first chunk: most jobs have none.
        let mut run = None;
        let mut chunks: u64 = 0;
        // Why chunks are no longer accepted; becomes the job's error.
        let mut refusal = None;
        loop {
            match outbox.next().await {
                Message::Progress(progress) => {
                    self.progress(job_id, progress, outbox, notes).await;
                }
                Message::Chunk(_) if refusal.is_some() => {}
                Message::Chunk(chunk) => {
                    chunks += 1;
                    let key = format!("{}-{chunks}", run.get_or_insert_with(Uuid::new_v4));
                    if let Err(failure) = self.chunk(job_id, &key, chunk, notes).await {
                        outbox.close();
                        refusal = Some(failure);
                    }
                }
                Message::Final(last) => {
                    let outcome = refusal.map_or(last.outcome, Err);
                    notes.delivering(outcome.as_ref().err());
                    let last = Final { outcome, ..last };
                    let completed = self.result(job_id, last, notes).await;
                    notes.settled();
                    return completed;
                }
            }
        }
    }

    /// Posts a progress update until it is accepted, or there is something newer to say.
    async fn progress(
        &self,
        job_id: &str,
        progress: Box<RawValue>,
        outbox: &Outbox,
        notes: &PostNotes,
    ) {
        let body = encode(Post::from_progress(progress));
        let post = || self.api.post_result(job_id, false, body.clone());
        if let Err(why) = self
            .persist(Kind::Progress, notes, post, || outbox.ready())
            .await
        {
            debug!("a progress update was not accepted: {why}");
        }
    }

    async fn chunk(
        &self,
        job_id: &str,
        key: &str,
        chunk: Box<RawValue>,
        notes: &PostNotes,
    ) -> Result<(), HandlerError> {
        let body = encode(Post::from_output(chunk));
        let post = || self.api.post_chunk(job_id, key, body.clone());
        self.persist(Kind::Chunk, notes, post, pending)
            .await
            .map_err(|why| {
                HandlerError::new(
                    "chunk_refused",
                    format!("the platform did not accept a chunk: {why}"),
                )
            })
    }

    async fn result(&self, job_id: &str, last: Final, notes: &PostNotes) -> bool {
        let failed = last.outcome.is_err();
        let sent = self
            .send_result(job_id, last.outcome, last.refresh, notes)
            .await;
        let Err(why) = sent else { return !failed };
        error!("the result was not accepted: {why}");
        notes.not_accepted();
        if failed {
            return false;
        }
        // The job must not hang until it times out: a small result in place of the refused one.
        let refusal = HandlerError::new(
            "result_refused",
            format!("the platform did not accept the job's result: {why}"),
        );
        let sent = self
            .send_result(job_id, Err(refusal), last.refresh, notes)
            .await;
        if let Err(why) = sent {
            error!("nor was the error that says so: {why}");
        }
        false
    }

    async fn send_result(
        &self,
        job_id: &str,
        outcome: Result<Box<RawValue>, HandlerError>,
        stop_pod: bool,
        notes: &PostNotes,
    ) -> Result<(), String> {
        let mut post = match outcome {
            Ok(output) => Post::from_output(output),
            Err(failure) => Post::from_error(self.error_text(&failure)),
        };
        post.stop_pod = stop_pod;
        let body = encode(post);
        self.persist(
            Kind::Result,
            notes,
            || self.api.post_result(job_id, self.streams, body.clone()),
            pending,
        )
        .await
    }

    /// The error as the wire has it: JSON text in a string.
    fn error_text(&self, failure: &HandlerError) -> Value {
        let report = failure.report(&self.identity, self.error_details);
        // A struct of strings always serialises.
        Value::String(serde_json::to_string(&report).unwrap_or_default())
    }

    /// Makes a call until it is accepted, refused for good, past its deadline, or moot; then says why. Only the pause
    /// before another try is cut short by `moot`: a post on its way could still overtake what follows it.
    async fn persist<F, M>(
        &self,
        kind: Kind,
        notes: &PostNotes,
        mut call: impl FnMut() -> F,
        moot: impl Fn() -> M,
    ) -> Result<(), String>
    where
        F: Future<Output = Result<(), Trouble>>,
        M: Future<Output = ()>,
    {
        let started = Instant::now();
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        loop {
            match call().await {
                Ok(()) => {
                    notes.posted(kind, Posted::Accepted);
                    return Ok(());
                }
                Err(Trouble::Refused { why, .. }) => {
                    notes.posted(kind, Posted::Refused);
                    return Err(why);
                }
                Err(Trouble::Passing { why, after }) => {
                    let delay = backoff.next(after);
                    if started.elapsed() + delay > self.deadline {
                        notes.posted(kind, Posted::GivenUp);
                        return Err(format!("{why}; given up after {:?}", self.deadline));
                    }
                    warn!(
                        "a post was not accepted, next try in {} ms: {why}",
                        delay.as_millis()
                    );
                    if tokio::time::timeout(delay, moot()).await.is_ok() {
                        notes.posted(kind, Posted::Outdated);
                        return Err(format!("{why}; there is news to tell instead"));
                    }
                    notes.retried(kind);
                }
            }
        }
    }
}

/// The post's text, in which a large output is no copy.
fn encode(mut post: Post) -> Body {
    let large = post
        .output
        .take_if(|output| output.get().len() > MOST_COPIED);
    let small = post.output.as_ref().map_or(0, |output| output.get().len());
    let mut text = Vec::with_capacity(small + ENVELOPE);
    serde_json::to_writer(&mut text, &post).expect("raw JSON and strings always serialise");
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
