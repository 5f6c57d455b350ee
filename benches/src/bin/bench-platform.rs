//! The platform that all contenders poll. It queues the jobs itself, so that the requests of clients are not part of
//! the measurement, and records when each job is handed out and when its result is accepted.

use std::io::Write as _;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use podwork_benches::Result;
use podwork_benches::instruments::job_times::JobTimes;
use podwork_benches::instruments::messages::{
    ExpectedOutput, JobLoad, LoadReport, PlatformCommand, PlatformReply,
};
use podwork_platform::{Faults, JobEvent, Platform, Rules, RunRequest};
use podwork_protocol::{JobStatus, RawValue};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::{Notify, mpsc};
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// The target of the platform's job events.
const JOB_EVENTS: &str = "podwork_platform::job";
/// The payload limit, in bytes. It is larger than any payload that is measured.
const PAYLOAD: usize = 64 * 1024 * 1024;

/// Records the times of jobs, from the events of the platform.
#[derive(Debug, Clone)]
struct JobRecorder(Arc<RecorderState>);

#[derive(Debug)]
struct RecorderState {
    times: Mutex<JobTimes>,
    warm: Notify,
    done: Notify,
}

impl JobRecorder {
    fn new() -> Self {
        Self(Arc::new(RecorderState {
            times: Mutex::new(JobTimes::new(0, 0)),
            warm: Notify::new(),
            done: Notify::new(),
        }))
    }

    fn times(&self) -> MutexGuard<'_, JobTimes> {
        self.0.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for JobRecorder {
    // Other events remain disabled, as without this layer.
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.target() == JOB_EVENTS {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == JOB_EVENTS
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut told = EventFields::default();
        event.record(&mut told);
        let mut times = self.times();
        let now = times.now();
        if told.status == JobStatus::InProgress.as_str() {
            times.hand_out(told.job_id, now);
            return;
        }
        times.result(
            &told.job_id,
            told.status == JobStatus::Completed.as_str(),
            now,
        );
        if times.is_warm() {
            self.0.warm.notify_one();
        }
        if times.is_done() {
            self.0.done.notify_one();
        }
    }
}

/// The fields of a job event.
#[derive(Default)]
struct EventFields {
    job_id: String,
    status: String,
}

impl Visit for EventFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "job_id" => value.clone_into(&mut self.job_id),
            "status" => value.clone_into(&mut self.status),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

#[tokio::main]
async fn main() -> Result<()> {
    let recorder = JobRecorder::new();
    let subscriber = tracing_subscriber::registry().with(recorder.clone());
    tracing::subscriber::set_global_default(subscriber)?;
    let (sender, mut commands) = mpsc::channel(1);
    // The program exits when its input ends.
    tokio::spawn(async move {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.send(line).await.is_err() {
                break;
            }
        }
    });
    let mut running: Option<Platform> = None;
    let mut started = 0_u64;
    while let Some(line) = commands.recv().await {
        match serde_json::from_str(&line)? {
            PlatformCommand::Start { latency } => {
                if let Some(platform) = running.take() {
                    platform.shutdown().await;
                }
                started += 1;
                let platform = start(started, latency).await?;
                let env = platform.worker_env("bench").into_iter();
                say(&PlatformReply::Started {
                    env: env.map(|(name, value)| (name.to_owned(), value)).collect(),
                })?;
                running = Some(platform);
            }
            PlatformCommand::Run(load) => {
                let platform = running.as_ref().ok_or("no platform was started")?;
                let ran = tokio::select! {
                    ran = run(platform, &recorder, &load) => ran,
                    // No command arrives before the reply, so this is the end of the input.
                    _ = commands.recv() => return Ok(()),
                };
                say(&ran.map_or_else(
                    |error| PlatformReply::Failed(error.to_string()),
                    PlatformReply::Done,
                ))?;
            }
        }
    }
    Ok(())
}

fn say(reply: &PlatformReply) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, reply)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

async fn start(number: u64, latency: u64) -> Result<Platform> {
    let mut rules = Rules::default();
    (rules.run_payload, rules.runsync_payload) = (PAYLOAD, PAYLOAD);
    // The official worker does not run a job without an input.
    rules.strip_empty_input = false;
    let mut builder = Platform::builder()
        .endpoint(&format!("bench-{number}"))
        .rules(rules);
    if latency > 0 {
        let latency = Duration::from_millis(latency);
        builder = builder.faults(Faults {
            latency: latency..=latency,
            ..Faults::default()
        });
    }
    Ok(builder.start().await?)
}

/// Queues the jobs, and waits until all have ended.
async fn run(platform: &Platform, recorder: &JobRecorder, load: &JobLoad) -> Result<LoadReport> {
    *recorder.times() = JobTimes::new(load.warm_up, load.warm_up + load.jobs);
    let (warm_input, input) = (request(&load.warm_input)?, request(&load.input)?);
    for _ in 0..load.warm_up {
        platform.submit(warm_input.clone())?;
    }
    let mut last = None;
    for _ in 0..load.jobs {
        last = Some(platform.submit(input.clone())?);
    }
    say(&PlatformReply::Queued)?;
    if load.warm_up > 0 {
        recorder.0.warm.notified().await;
        say(&PlatformReply::Warm)?;
    }
    recorder.0.done.notified().await;
    let (report, failed) = {
        let times = recorder.times();
        (times.report(load.concurrency), times.failed())
    };
    if failed > 0 {
        return Err(format!("{failed} jobs failed").into());
    }
    check(platform, &last.ok_or("the load has no jobs")?, load).await?;
    report
}

fn request(input: &Value) -> Result<RunRequest> {
    Ok(RunRequest::new(serde_json::value::to_raw_value(input)?))
}

/// Returns an error unless a job has the expected output.
async fn check(platform: &Platform, job_id: &str, load: &JobLoad) -> Result<()> {
    let expected = match &load.expect {
        ExpectedOutput::Output(output) => output,
        ExpectedOutput::Input => &load.input,
        ExpectedOutput::Text(bytes) => {
            let mut events = pin!(platform.follow(job_id));
            let mut text = 0;
            while let Some(event) = events.next().await {
                if let JobEvent::Chunk(chunk) = event {
                    text += serde_json::from_str::<String>(chunk.get())?.len();
                }
            }
            if text == *bytes {
                return Ok(());
            }
            return Err(format!("the chunks are {text} bytes of text instead of {bytes}").into());
        }
    };
    let status = platform.status(job_id).ok_or("the job is gone")?;
    let output = status.output.as_deref().map_or("null", RawValue::get);
    if serde_json::from_str::<Value>(output)? == *expected {
        return Ok(());
    }
    let (begin, _) = output.split_at(output.floor_char_boundary(100));
    Err(format!("the output of the job is wrong: {begin}").into())
}
