//! The job's calls: its submission, its status and its chunks.

use std::time::Duration;

use anyhow::{Result, bail};
use podwork_protocol::RawValue;
use podwork_protocol::client::{RunRequest, StatusResponse};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Invocation;
use super::view::FinishedJob;
use crate::endpoint_client::RefusedCall;
use crate::output::note;

/// The first and the longest pause between two calls.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// The time after the submission in which the endpoint may not know the job yet.
const UNKNOWN_TIME: Duration = Duration::from_secs(10);
/// The maximum number of calls for chunks after the job's end, and of those that bring none.
const LAST_CALLS: (usize, usize) = (100, 5);
/// The time without any answer after which the chunks are given up, once the job has ended. It is shorter than the time
/// that a cancelled job has to end.
const LAST_TIME: Duration = Duration::from_secs(3);
/// The maximum size of the chunks that are kept for the JSON object at the end, in bytes.
const MAX_KEPT: usize = 256 << 20;

impl Invocation {
    /// Submits the job, and shows it until it has ended.
    pub(super) async fn follow(&self, request: &RunRequest) -> Result<FinishedJob> {
        let submitted = self.endpoint.run(request).await?;
        let submitted_at = Instant::now();
        let id = self.id.get_or_init(|| submitted.id);
        self.view.submitted(id);
        let (end, ended) = watch::channel(false);
        let chunks = async {
            // Without `--stream` there are no chunks to wait for.
            if self.stream {
                self.chunks(id, ended).await
            } else {
                Ok(Vec::new())
            }
        };
        let status = async {
            let status = self.status(id, submitted_at).await?;
            end.send_replace(true);
            Ok(status)
        };
        let (chunks, mut status) = tokio::try_join!(chunks, status)?;
        if status.id.is_empty() {
            status.id.clone_from(id);
        }
        Ok(FinishedJob { status, chunks })
    }

    /// Polls the status until the job has ended.
    async fn status(&self, id: &str, submitted_at: Instant) -> Result<StatusResponse> {
        let mut pauses = Pauses::new();
        loop {
            let late = submitted_at.elapsed() >= UNKNOWN_TIME;
            if let Some(status) = found(self.endpoint.status(id).await, late)? {
                self.view.status(&status);
                if status.status.is_final() {
                    return Ok(status);
                }
            }
            pauses.next(Duration::ZERO).await;
        }
    }

    /// Shows chunks as they arrive, until the stream has ended, and returns them if the JSON object at the end needs them.
    ///
    /// A stream that fails does not affect the job: its output is shown all the same.
    async fn chunks(&self, id: &str, ended: watch::Receiver<bool>) -> Result<Vec<Box<RawValue>>> {
        let mut seen = SeenChunks::default();
        let complete = tokio::select! {
            biased;
            complete = self.read_chunks(id, &ended, &mut seen) => complete?,
            () = self.silence(ended.clone()) => {
                seen.problem.get_or_insert_with(|| format!("no answer within {LAST_TIME:?}"));
                false
            }
        };
        if !complete {
            let problem = seen.problem.map(|problem| format!(": {problem}"));
            note(format_args!(
                "note: the stream did not end with the job; there may be more chunks{}",
                problem.unwrap_or_default()
            ));
        }
        Ok(seen.kept)
    }

    /// Returns when the job has ended and then no part of an answer has arrived for some time.
    async fn silence(&self, mut ended: watch::Receiver<bool>) {
        if ended.wait_for(|ended| *ended).await.is_err() {
            // There is no status any more, so the other calls have failed.
            return;
        }
        loop {
            let received = self.endpoint.received();
            sleep(LAST_TIME).await;
            if self.endpoint.received() == received {
                return;
            }
        }
    }

    /// Shows chunks, and returns whether the stream has ended.
    ///
    /// An answer with a final status and without chunks is the end of the stream. Some platforms never send it, so the
    /// calls after the job's end are limited.
    async fn read_chunks(
        &self,
        id: &str,
        ended: &watch::Receiver<bool>,
        seen: &mut SeenChunks,
    ) -> Result<bool> {
        let mut pauses = Pauses::new();
        let (mut calls_left, mut empty_left) = LAST_CALLS;
        loop {
            let last = *ended.borrow();
            let mut retry = Duration::ZERO;
            // Calls that may succeed later are limited by time alone.
            let mut counted = true;
            let mut empty = true;
            match self.endpoint.stream(id).await {
                Ok(response) => {
                    seen.problem = None;
                    empty = response.stream.is_empty();
                    if empty && response.status.is_final() {
                        return Ok(true);
                    }
                    if !empty {
                        pauses = Pauses::new();
                    }
                    for chunk in response.stream {
                        self.view.chunk(&chunk.output);
                        if self.view.json {
                            seen.size += chunk.output.get().len();
                            seen.kept.push(chunk.output);
                        }
                    }
                    if seen.size > MAX_KEPT {
                        bail!(
                            "the chunks are larger than {} MB in all: show them without --json",
                            MAX_KEPT >> 20
                        );
                    }
                }
                // An endpoint may know no streams, or not know the job yet; the status shows whether it knows the job.
                Err(failed) => {
                    counted = failed.retry.is_none();
                    retry = failed.retry.unwrap_or_default();
                    seen.problem = Some(format!("{:#}", failed.error));
                }
            }
            if last && counted {
                calls_left -= 1;
                empty_left -= usize::from(empty);
            }
            if calls_left == 0 || empty_left == 0 {
                return Ok(false);
            }
            pauses.next(retry).await;
        }
    }
}

/// The chunks of a stream so far.
#[derive(Default)]
struct SeenChunks {
    kept: Vec<Box<RawValue>>,
    /// The size of those that are kept, in bytes.
    size: usize,
    /// The reason why the last call brought no answer, if it did not.
    problem: Option<String>,
}

/// Returns `None` if the endpoint does not know the job yet: the submission may not have reached all of its servers. If it
/// is too `late` for that, this is an error.
fn found<T>(answer: Result<T>, late: bool) -> Result<Option<T>> {
    match answer {
        Err(error) if !late && error.downcast_ref().is_some_and(RefusedCall::is_not_found) => {
            Ok(None)
        }
        answer => answer.map(Some),
    }
}

/// The pauses between calls, which become longer.
struct Pauses(Duration);

impl Pauses {
    fn new() -> Self {
        Self(PAUSES.0)
    }

    /// Pauses for at least `min`.
    async fn next(&mut self, min: Duration) {
        sleep(self.0.max(min)).await;
        self.0 = (self.0 * 3 / 2).min(PAUSES.1);
    }
}
