//! `podwork invoke`: one job, from its submission to its end.

mod follow;
mod progress;
mod request;
mod view;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use podwork_protocol::JobStatus;
use podwork_protocol::client::RunRequest;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::args::{Invoke, UsageError};
use crate::endpoint_client::EndpointClient;
use crate::output::note;
use crate::processes::Interrupts;
use request::request;
use view::JobView;

/// The exit code if the endpoint gave no usable answer.
const NO_ANSWER: u8 = 5;
/// The time that a cancelled job has to end.
const CANCEL_TIME: Duration = Duration::from_secs(5);

pub(crate) async fn invoke(args: Invoke) -> Result<ExitCode> {
    let request = request(args.data.as_deref()).map_err(UsageError::of)?;
    let endpoint = EndpointClient::new(&args.endpoint, args.api_key.as_deref());
    let job = Invocation {
        endpoint: endpoint.map_err(UsageError::of)?,
        stream: args.stream,
        view: Arc::new(JobView::new(args.json)),
        id: Arc::default(),
    };
    let mut signals = Interrupts::new()?;
    // A task, so that signals end the tool even while nobody reads the output.
    let mut running = tokio::spawn(job.clone().run(request));
    let code = tokio::select! {
        ended = &mut running => return ended.context("the task that follows the job has panicked")?,
        code = signals.next() => code,
    };
    job.interrupted(running, &mut signals, code).await
}

/// A job of the endpoint.
#[derive(Clone)]
struct Invocation {
    endpoint: EndpointClient,
    stream: bool,
    view: Arc<JobView>,
    /// The job's id, once it is submitted.
    id: Arc<OnceLock<String>>,
}

impl Invocation {
    /// Submits the job, shows it until it has ended, and returns the exit code.
    async fn run(self, request: RunRequest) -> Result<ExitCode> {
        match self.follow(&request).await {
            Ok(ended) => {
                self.view.end(&ended, self.stream)?;
                Ok(exit_code(ended.status.status))
            }
            Err(error) => {
                self.view
                    .no_answer(&error, self.id.get().map(String::as_str))?;
                Ok(ExitCode::from(NO_ANSWER))
            }
        }
    }

    /// Cancels the job after a signal, whose exit code is `code`. Gives up after a second signal, or if the job does not
    /// end in time.
    async fn interrupted(
        &self,
        mut running: JoinHandle<Result<ExitCode>>,
        signals: &mut Interrupts,
        code: u8,
    ) -> Result<ExitCode> {
        let Some(id) = self.id.get() else {
            self.view.clear();
            note("interrupted while submitting the job: the endpoint may have received it");
            return Ok(ExitCode::from(code));
        };
        self.view.cancelling();
        let cancelled = async {
            self.endpoint.cancel(id).await?;
            (&mut running)
                .await
                .context("the task that follows the job has panicked")?
        };
        let (code, reason) = tokio::select! {
            ended = cancelled => match ended {
                Ok(ended) => return Ok(ended),
                Err(error) => (code, format!("{error:#}")),
            },
            () = sleep(CANCEL_TIME) => (code, format!("it did not end within {CANCEL_TIME:?}")),
            code = signals.next() => (code, "interrupted again".to_owned()),
        };
        running.abort();
        self.view.clear();
        note(format_args!("job {id} may still be running: {reason}"));
        Ok(ExitCode::from(code))
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
