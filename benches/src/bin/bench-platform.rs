//! The platform that all contenders work for: it queues jobs by calls from within, so that no client's requests stand
//! beside those of the worker, and notes when each is handed out and when its result is accepted.

use std::io::Write as _;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use podwork_benches::Result;
use podwork_benches::book::Book;
use podwork_benches::wire::{Command, Expect, Load, Reply, Report};
use podwork_platform::{Faults, JobEvent, Platform, Rules, RunRequest};
use podwork_protocol::{JobStatus, RawValue};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::{Notify, mpsc};
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// Where the platform tells of jobs.
const JOB_EVENTS: &str = "podwork_platform::job";
/// Larger than any payload that is measured.
const PAYLOAD: usize = 64 * 1024 * 1024;

/// Keeps the book, by what the platform tells.
#[derive(Debug, Clone)]
struct Clerk(Arc<Desk>);

#[derive(Debug)]
struct Desk {
    book: Mutex<Book>,
    warm: Notify,
    done: Notify,
}

impl Clerk {
    fn new() -> Self {
        Self(Arc::new(Desk {
            book: Mutex::new(Book::new(0, 0)),
            warm: Notify::new(),
            done: Notify::new(),
        }))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Clerk {
    // All others in this process stay as silent as without this layer.
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
        let mut told = Told::default();
        event.record(&mut told);
        let mut book = self.book();
        let now = book.now();
        if told.status == JobStatus::InProgress.as_str() {
            book.hand_out(told.job_id, now);
            return;
        }
        book.result(
            &told.job_id,
            told.status == JobStatus::Completed.as_str(),
            now,
        );
        if book.is_warm() {
            self.0.warm.notify_one();
        }
        if book.is_done() {
            self.0.done.notify_one();
        }
    }
}

/// The members of one event.
#[derive(Default)]
struct Told {
    job_id: String,
    status: String,
}

impl Visit for Told {
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
    let clerk = Clerk::new();
    let subscriber = tracing_subscriber::registry().with(clerk.clone());
    tracing::subscriber::set_global_default(subscriber)?;
    let (sender, mut commands) = mpsc::channel(1);
    // Ends with its input; so does all else then.
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
            Command::Start { latency } => {
                if let Some(platform) = running.take() {
                    platform.shutdown().await;
                }
                started += 1;
                let platform = start(started, latency).await?;
                let env = platform.worker_env("bench").into_iter();
                say(&Reply::Started {
                    env: env.map(|(name, value)| (name.to_owned(), value)).collect(),
                })?;
                running = Some(platform);
            }
            Command::Run(load) => {
                let platform = running.as_ref().ok_or("nothing was started")?;
                let ran = tokio::select! {
                    ran = run(platform, &clerk, &load) => ran,
                    // It is not asked for more before it has answered: nobody is there any more.
                    _ = commands.recv() => return Ok(()),
                };
                say(&ran.map_or_else(|error| Reply::Failed(error.to_string()), Reply::Done))?;
            }
        }
    }
    Ok(())
}

fn say(reply: &Reply) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, reply)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

async fn start(number: u64, latency: u64) -> Result<Platform> {
    let mut rules = Rules::default();
    (rules.run_payload, rules.runsync_payload) = (PAYLOAD, PAYLOAD);
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
async fn run(platform: &Platform, clerk: &Clerk, load: &Load) -> Result<Report> {
    *clerk.book() = Book::new(load.warm_up, load.warm_up + load.jobs);
    let (warm_input, input) = (request(&load.warm_input)?, request(&load.input)?);
    for _ in 0..load.warm_up {
        platform.submit(warm_input.clone())?;
    }
    let mut last = None;
    for _ in 0..load.jobs {
        last = Some(platform.submit(input.clone())?);
    }
    say(&Reply::Queued)?;
    if load.warm_up > 0 {
        clerk.0.warm.notified().await;
        say(&Reply::Warm)?;
    }
    clerk.0.done.notified().await;
    let (report, failed) = {
        let book = clerk.book();
        (book.report(load.concurrency), book.failed())
    };
    if failed > 0 {
        return Err(format!("{failed} jobs failed").into());
    }
    check(platform, &last.ok_or("no job was asked for")?, load).await?;
    report
}

fn request(input: &Value) -> Result<RunRequest> {
    Ok(RunRequest::new(serde_json::value::to_raw_value(input)?))
}

/// Whether a job ended as it should.
async fn check(platform: &Platform, job_id: &str, load: &Load) -> Result<()> {
    let expected = match &load.expect {
        Expect::Output(output) => output,
        Expect::Input => &load.input,
        Expect::Text(bytes) => {
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
            return Err(format!("the chunks are {text} bytes of text and not {bytes}").into());
        }
    };
    let status = platform.status(job_id).ok_or("the job is gone")?;
    let output = status.output.as_deref().map_or("null", RawValue::get);
    if serde_json::from_str::<Value>(output)? == *expected {
        return Ok(());
    }
    let (begin, _) = output.split_at(output.floor_char_boundary(100));
    Err(format!("the job's output is not what it should be: {begin}").into())
}
