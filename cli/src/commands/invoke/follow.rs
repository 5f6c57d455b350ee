//! The job's calls: its submission, its status and its chunks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use podwork_protocol::RawValue;
use podwork_protocol::client::{RunRequest, StatusResponse};
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
/// The maximum size of the chunks that are kept for the JSON object at the end, in bytes.
const MAX_KEPT: usize = 256 << 20;

impl Invocation {
    /// Submits the job, and shows it until it has ended.
    pub(super) async fn follow(&self, request: &RunRequest) -> Result<FinishedJob> {
        let submitted = self.endpoint.run(request).await?;
        let submitted_at = Instant::now();
        let id = self.id.get_or_init(|| submitted.id);
        self.view.submitted(id);
        let ended = AtomicBool::new(false);
        let chunks = async {
            // Without `--stream` there are no chunks to wait for.
            if self.stream {
                self.chunks(id, &ended).await
            } else {
                Ok(Vec::new())
            }
        };
        let status = async {
            let status = self.status(id, submitted_at).await?;
            ended.store(true, Ordering::Relaxed);
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
            pauses.next().await;
        }
    }

    /// Shows chunks as they arrive, until the stream has ended, and returns them if the JSON object at the end needs them.
    ///
    /// An answer with a final status and without chunks is the end of the stream. Some platforms never send it, so the
    /// calls after the job's end are limited.
    async fn chunks(&self, id: &str, ended: &AtomicBool) -> Result<Vec<Box<RawValue>>> {
        let mut pauses = Pauses::new();
        let (mut kept, mut size) = (Vec::new(), 0);
        let (mut calls_left, mut empty_left) = LAST_CALLS;
        loop {
            let last = ended.load(Ordering::Relaxed);
            // An endpoint may know no streams; the status shows whether it knows the job.
            let response = found(self.endpoint.stream(id).await, false)?;
            let empty = response
                .as_ref()
                .is_none_or(|found| found.stream.is_empty());
            if !empty {
                pauses = Pauses::new();
            }
            if let Some(response) = response {
                if empty && response.status.is_final() {
                    return Ok(kept);
                }
                for chunk in response.stream {
                    self.view.chunk(&chunk.output);
                    if self.view.json {
                        size += chunk.output.get().len();
                        kept.push(chunk.output);
                    }
                }
                if size > MAX_KEPT {
                    bail!(
                        "the chunks are larger than {} MB in all: show them without --json",
                        MAX_KEPT >> 20
                    );
                }
            }
            if last {
                calls_left -= 1;
                empty_left -= usize::from(empty);
            }
            if calls_left == 0 || empty_left == 0 {
                note("note: the stream did not end with the job; there may be more chunks");
                return Ok(kept);
            }
            pauses.next().await;
        }
    }
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

    async fn next(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 3 / 2).min(PAUSES.1);
    }
}
