//! The display of a job.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use podwork_protocol::client::StatusResponse;
use podwork_protocol::worker::ErrorReport;
use podwork_protocol::{JobStatus, RawValue};
use serde::Serialize;
use serde_json::Value;

use super::progress;

/// A job that has ended, and its chunks.
pub(super) struct FinishedJob {
    pub(super) status: StatusResponse,
    pub(super) chunks: Vec<Box<RawValue>>,
}

/// The display: chunks and output on standard output, progress on standard error if that is a terminal.
pub(super) struct JobView {
    pub(super) json: bool,
    pub(super) bar: ProgressBar,
}

impl JobView {
    pub(super) fn new(json: bool) -> Self {
        // A bar is visible on a terminal only.
        let bar = if json {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(1000)
        };
        Self { json, bar }
    }

    pub(super) fn submitted(&self, job: &str) {
        self.bar.enable_steady_tick(Duration::from_millis(100));
        self.spin(&format!("job {job}"));
    }

    pub(super) fn cancelling(&self) {
        self.spin("cancelling; press Ctrl-C again to exit immediately");
    }

    pub(super) fn status(&self, status: &StatusResponse) {
        let progress = status
            .output
            .as_ref()
            .filter(|_| status.status == JobStatus::InProgress);
        match progress {
            Some(progress) => match progress::share(progress.get()) {
                Some(share) => {
                    self.bar
                        .set_style(style("{spinner} {bar:30} {percent:>3} %  {wide_msg}"));
                    #[allow(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "the value is between 0 and 1000"
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

    pub(super) fn chunk(&self, chunk: &RawValue) {
        if !self.json {
            self.bar.suspend(|| print_line(&plain(chunk)));
        }
    }

    pub(super) fn end(&self, ended: &FinishedJob, stream: bool) -> Result<()> {
        #[derive(Serialize)]
        struct Object<'a> {
            #[serde(flatten)]
            status: &'a StatusResponse,
            #[serde(skip_serializing_if = "Option::is_none")]
            stream: Option<&'a [Box<RawValue>]>,
        }

        self.bar.finish_and_clear();
        let FinishedJob { status, chunks } = ended;
        if self.json {
            let object = Object {
                status,
                stream: stream.then_some(chunks),
            };
            print_line(&serde_json::to_string(&object)?);
            return Ok(());
        }
        // A streaming handler's output is an empty list, or repeats the chunks.
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

/// Formats a string without its quotes, and any other value as JSON.
fn plain(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

/// Returns the message of an error result.
fn message(error: &Value) -> String {
    let text = error
        .as_str()
        .map_or_else(|| error.to_string(), ToOwned::to_owned);
    match serde_json::from_str::<ErrorReport>(&text) {
        Ok(report) => format!("{}: {}", report.error_type, report.error_message),
        Err(_) => text,
    }
}

/// Prints a line. Ignores errors: a closed reader, such as `head`, does not affect the job.
pub(super) fn print_line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}
