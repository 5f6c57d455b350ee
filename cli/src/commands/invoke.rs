//! `podwork invoke`: one job, from its submission to its end.

use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use podwork_protocol::client::{RunRequest, StatusResponse};
use podwork_protocol::worker::ErrorReport;
use podwork_protocol::{JobStatus, RawValue};
use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Invoke;
use crate::child::Signals;
use crate::client::Endpoint;
use crate::share::share;

/// Between two questions for the status, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

/// The endpoint gave no answer to work with.
const NO_ANSWER: u8 = 5;
/// As a shell has it for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

pub(crate) async fn invoke(args: Invoke) -> Result<ExitCode> {
    let request = request(args.data.as_deref())?;
    let endpoint = Endpoint::new(&args.endpoint, args.api_key.as_deref())?;
    let mut signals = Signals::new()?;
    let view = View::new(args.json);
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

/// Reads the input, or the whole request.
fn request(data: Option<&str>) -> Result<RunRequest> {
    let (source, text) = match data {
        None => (
            "test_input.json",
            std::fs::read_to_string("test_input.json").context(
                "test_input.json cannot be read; pass the input with --data JSON or --data @file",
            )?,
        ),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("standard input cannot be read")?;
            ("standard input", text)
        }
        Some(data) => match data.strip_prefix('@') {
            Some(path) => (
                path,
                std::fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?,
            ),
            None => ("--data", data.to_owned()),
        },
    };
    let value: Value = serde_json::from_str(&text).with_context(|| {
        format!(
            "{source} is no JSON; quote it for the shell, such as --data '{{\"name\": \"Ada\"}}'"
        )
    })?;
    if value.get("input").is_some() {
        return serde_json::from_str(&text).with_context(|| format!("{source} is no request"));
    }
    let input = RawValue::from_string(text.trim().to_owned()).context("the input is no JSON")?;
    Ok(RunRequest::new(input))
}

/// A job that has ended, and its chunks.
struct Ended {
    status: StatusResponse,
    chunks: Vec<Box<RawValue>>,
}

/// Submits the job and shows it until it has ended. The first signal cancels it; `None` at the second.
async fn follow(
    endpoint: &Endpoint,
    request: &RunRequest,
    stream: bool,
    view: &View,
    signals: &mut Signals,
) -> Result<Option<Ended>> {
    let job = tokio::select! {
        submitted = endpoint.run(request) => submitted?,
        () = signals.next() => return Ok(None),
    };
    view.submitted(&job.id);
    let watching = async {
        // Without a stream to wait for, its side is done at once.
        let chunks = async {
            if stream {
                chunks(endpoint, &job.id, view).await
            } else {
                Ok(Vec::new())
            }
        };
        let (chunks, status) = tokio::try_join!(chunks, status(endpoint, &job.id, view))?;
        Ok(Some(Ended { status, chunks }))
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

/// Asks how the job stands until it has ended.
async fn status(endpoint: &Endpoint, job: &str, view: &View) -> Result<StatusResponse> {
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

/// Shows chunks as they come, until there are no more to come.
async fn chunks(endpoint: &Endpoint, job: &str, view: &View) -> Result<Vec<Box<RawValue>>> {
    let mut chunks = Vec::new();
    let (first, longest) = PAUSES;
    let mut pause = first;
    loop {
        let response = endpoint.stream(job).await?;
        let none = response.stream.is_empty();
        for chunk in response.stream {
            view.chunk(&chunk.output);
            // They are kept for the one object at the end only.
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

/// What the user sees: chunks and output on standard output, all else on standard error, where that is a terminal.
struct View {
    json: bool,
    bar: ProgressBar,
}

impl View {
    fn new(json: bool) -> Self {
        // A bar shows itself on a terminal only.
        let bar = if json {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(1000)
        };
        Self { json, bar }
    }

    fn submitted(&self, job: &str) {
        self.bar.enable_steady_tick(Duration::from_millis(100));
        self.spin(&format!("job {job}"));
    }

    fn cancelling(&self) {
        self.spin("cancelling; Ctrl-C again leaves at once");
    }

    fn status(&self, status: &StatusResponse) {
        let progress = status
            .output
            .as_ref()
            .filter(|_| status.status == JobStatus::InProgress);
        match progress {
            Some(progress) => match share(progress.get()) {
                Some(share) => {
                    self.bar
                        .set_style(style("{spinner} {bar:30} {percent:>3} %  {wide_msg}"));
                    #[allow(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "it is 0 to 1000"
                    )]
                    self.bar.set_position((share * 1000.0) as u64);
                    self.bar.set_message(progress.get().to_owned());
                }
                None => self.spin(&format!("{}  {}", status.status, plain(progress))),
            },
            None => self.spin(status.status.as_str()),
        }
    }

    fn spin(&self, text: &str) {
        self.bar.set_style(style("{spinner} {wide_msg}"));
        self.bar.set_message(text.to_owned());
    }

    fn chunk(&self, chunk: &RawValue) {
        if !self.json {
            self.bar.suspend(|| print_line(&plain(chunk)));
        }
    }

    fn end(&self, ended: &Ended, stream: bool) -> Result<()> {
        #[derive(Serialize)]
        struct Object<'a> {
            #[serde(flatten)]
            status: &'a StatusResponse,
            #[serde(skip_serializing_if = "Option::is_none")]
            stream: Option<&'a [Box<RawValue>]>,
        }

        self.bar.finish_and_clear();
        let Ended { status, chunks } = ended;
        if self.json {
            let object = Object {
                status,
                stream: stream.then_some(chunks),
            };
            print_line(&serde_json::to_string(&object)?);
            return Ok(());
        }
        // A streaming handler's output is an empty list, or repeats what was shown.
        if let Some(output) = status.output.as_ref().filter(|_| !stream) {
            print_line(&plain(output));
        }
        if let Some(error) = &status.error {
            eprintln!("{}", message(error));
        }
        let millis =
            |time: Option<u64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time} ms"));
        eprintln!(
            "{} | delayTime {}, executionTime {}",
            status.status,
            millis(status.delay_time),
            millis(status.execution_time)
        );
        Ok(())
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A text without its quotes, all else as JSON.
fn plain(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

/// What an error result says.
fn message(error: &Value) -> String {
    let text = error
        .as_str()
        .map_or_else(|| error.to_string(), ToOwned::to_owned);
    match serde_json::from_str::<ErrorReport>(&text) {
        Ok(report) => format!("{}: {}", report.error_type, report.error_message),
        Err(_) => text,
    }
}

/// A reader that is gone, such as `head`, is no trouble of the job's.
fn print_line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_the_input_or_the_whole_request() {
        let input = |data: &str| request(Some(data)).unwrap().input.get().to_owned();
        assert_eq!(input(r#"{"name": "Ada"}"#), r#"{"name": "Ada"}"#);
        assert_eq!(input("7"), "7");
        assert_eq!(input(r#"{"input": {"name": "Ada"}}"#), r#"{"name": "Ada"}"#);
        let whole = request(Some(r#"{"input": 1, "policy": {"ttl": 20000}}"#)).unwrap();
        assert_eq!(whole.policy.unwrap().ttl, Some(20_000));
    }

    #[test]
    fn what_cannot_be_read_is_said_with_what_to_write() {
        let complaint = |data| format!("{:#}", request(Some(data)).unwrap_err());
        assert!(complaint("{name: Ada}").starts_with("--data is no JSON; quote it"));
        assert!(complaint("@no/such").starts_with("no/such cannot be read"));
    }
}
