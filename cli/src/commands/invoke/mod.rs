//! `podwork invoke`: one job, from its submission to its end.

mod progress;
mod request;
mod view;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use podwork_protocol::client::{RunRequest, StatusResponse};
use podwork_protocol::{JobStatus, RawValue};
use serde_json::json;

use crate::args::Invoke;
use crate::endpoint_client::EndpointClient;
use crate::processes::Interrupts;
use request::request;
use view::{FinishedJob, JobView, print_line};

/// The first and the longest pause between two calls for the status.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// The exit code if the endpoint gave no usable answer.
const NO_ANSWER: u8 = 5;
/// The exit code by which shells report a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

pub(crate) async fn invoke(args: Invoke) -> Result<ExitCode> {
    let request = request(args.data.as_deref())?;
    let endpoint = EndpointClient::new(&args.endpoint, args.api_key.as_deref())?;
    let mut signals = Interrupts::new()?;
    let view = JobView::new(args.json);
    match follow(&endpoint, &request, args.stream, &view, &mut signals).await {
        Ok(Some(ended)) => {
            view.end(&ended, args.stream)?;
            Ok(exit_code(ended.status.status))
        }
        Ok(None) => Ok(ExitCode::from(INTERRUPTED)),
        Err(error) => {
            view.bar.finish_and_clear();
            if args.json {
                print_line(&json!({ "error": format!("{error:#}") }).to_string());
            } else {
                eprintln!("error: {error:#}");
            }
            Ok(ExitCode::from(NO_ANSWER))
        }
    }
}

/// Submits the job, and shows it until it has ended. The first signal cancels the job. Returns `None` after the second.
async fn follow(
    endpoint: &EndpointClient,
    request: &RunRequest,
    stream: bool,
    view: &JobView,
    signals: &mut Interrupts,
) -> Result<Option<FinishedJob>> {
    let job = tokio::select! {
        submitted = endpoint.run(request) => submitted?,
        () = signals.next() => return Ok(None),
    };
    view.submitted(&job.id);
    let watching = async {
        // Without `--stream` there are no chunks to wait for.
        let chunks = async {
            if stream {
                chunks(endpoint, &job.id, view).await
            } else {
                Ok(Vec::new())
            }
        };
        let (chunks, status) = tokio::try_join!(chunks, status(endpoint, &job.id, view))?;
        Ok(Some(FinishedJob { status, chunks }))
    };
    let mut watching = std::pin::pin!(watching);
    tokio::select! {
        ended = &mut watching => return ended,
        () = signals.next() => {}
    }
    view.cancelling();
    let cancelled = async {
        endpoint.cancel(&job.id).await?;
        watching.await
    };
    tokio::select! {
        ended = cancelled => ended,
        () = signals.next() => Ok(None),
    }
}

/// Polls the status until the job has ended.
async fn status(endpoint: &EndpointClient, job: &str, view: &JobView) -> Result<StatusResponse> {
    let (mut pause, longest) = PAUSES;
    loop {
        let status = endpoint.status(job).await?;
        view.status(&status);
        if status.status.is_final() {
            return Ok(status);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(longest);
    }
}

/// Shows chunks as they arrive, until the stream has ended.
async fn chunks(
    endpoint: &EndpointClient,
    job: &str,
    view: &JobView,
) -> Result<Vec<Box<RawValue>>> {
    let mut chunks = Vec::new();
    let (first, longest) = PAUSES;
    let mut pause = first;
    loop {
        let response = endpoint.stream(job).await?;
        let none = response.stream.is_empty();
        for chunk in response.stream {
            view.chunk(&chunk.output);
            // Only the JSON object at the end needs them.
            if view.json {
                chunks.push(chunk.output);
            }
        }
        if none && response.status.is_final() {
            return Ok(chunks);
        }
        if none {
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(longest);
        } else {
            pause = first;
        }
    }
}

fn exit_code(status: JobStatus) -> ExitCode {
    match status {
        JobStatus::Completed => ExitCode::SUCCESS,
        JobStatus::Cancelled => ExitCode::from(3),
        JobStatus::TimedOut => ExitCode::from(4),
        _ => ExitCode::FAILURE,
    }
}
