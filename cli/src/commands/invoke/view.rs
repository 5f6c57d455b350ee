//! The display of a job.

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use podwork_protocol::client::StatusResponse;
use podwork_protocol::worker::ErrorReport;
use podwork_protocol::{JobStatus, RawValue};
use serde::Serialize;
use serde_json::{Value, json};

use super::progress::JobProgress;
use crate::output::{OutputClosed, note, print_line};

/// A job that has ended, and its chunks.
pub(super) struct FinishedJob {
    pub(super) status: StatusResponse,
    pub(super) chunks: Vec<Box<RawValue>>,
}

/// The display: chunks and output on standard output, progress on standard error if that is a terminal.
pub(super) struct JobView {
    pub(super) json: bool,
    bar: ProgressBar,
    progress: JobProgress,
    output: Mutex<OutputState>,
}

/// The state of standard output. An error does not affect the job, so it is reported at the end.
#[derive(Default)]
struct OutputState {
    has_chunks: bool,
    error: Option<anyhow::Error>,
}

impl JobView {
    pub(super) fn new(json: bool) -> Self {
        // A bar is visible on a terminal only.
        let bar = if json {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(1000)
        };
        Self {
            json,
            bar,
            progress: JobProgress::default(),
            output: Mutex::default(),
        }
    }

    pub(super) fn submitted(&self, job: &str) {
        self.bar.enable_steady_tick(Duration::from_millis(100));
        self.spin(&format!("job {job}"));
    }

    /// Removes the progress from the terminal.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
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
            Some(progress) => match self.progress.share(progress.get()) {
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
        if !self.json && std::io::stdout().is_terminal() {
            self.bar.suspend(|| self.print(plain(chunk)));
        } else if !self.json {
            // Without the lock of the bar, because a pipe that nobody reads would block all of its users.
            self.print(plain(chunk));
        }
        self.output().has_chunks = true;
    }

    fn output(&self) -> MutexGuard<'_, OutputState> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints a line on standard output, unless an earlier one could not be written.
    fn print(&self, line: impl Display) {
        let mut output = self.output();
        if output.error.is_none() {
            output.error = print_line(line).err();
        }
    }

    /// Returns the error of standard output. A reader that has closed it, such as `head`, needs no message.
    fn printed(&self) -> Result<()> {
        match self.output().error.take() {
            Some(error) if !error.is::<OutputClosed>() => Err(error),
            _ => Ok(()),
        }
    }

    /// Shows that the job's result is unknown.
    pub(super) fn no_answer(&self, error: &anyhow::Error, job: Option<&str>) -> Result<()> {
        self.clear();
        let mut text = format!("{error:#}");
        if self.json {
            let mut object = json!({ "error": text });
            if let Some(job) = job {
                object["id"] = job.into();
            }
            self.print(object);
        } else {
            if let Some(job) = job {
                text = format!("job {job} may still be running: {text}");
            }
            note(format_args!("error: {text}"));
        }
        self.printed()
    }

    pub(super) fn end(&self, ended: &FinishedJob, stream: bool) -> Result<()> {
        #[derive(Serialize)]
        struct Object<'a> {
            #[serde(flatten)]
            status: &'a StatusResponse,
            #[serde(skip_serializing_if = "Option::is_none")]
            stream: Option<&'a [Box<RawValue>]>,
        }

        self.clear();
        let FinishedJob { status, chunks } = ended;
        if self.json {
            let object = Object {
                status,
                stream: stream.then_some(chunks),
            };
            self.print(serde_json::to_string(&object)?);
            return self.printed();
        }
        // After chunks, a list is empty or repeats them.
        let repeats = self.output().has_chunks;
        let shown = |output: &RawValue| !(repeats && output.get().starts_with('['));
        if let Some(output) = status.output.as_deref().filter(|output| shown(output)) {
            self.print(plain(output));
        }
        if let Some(error) = &status.error {
            note(message(error));
        }
        let millis =
            |time: Option<u64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time} ms"));
        note(format_args!(
            "{} | delayTime {}, executionTime {}",
            status.status,
            millis(status.delay_time),
            millis(status.execution_time)
        ));
        self.printed()
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
