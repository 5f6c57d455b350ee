//! `podwork dev`: one platform, and a worker that is rebuilt after each change.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use cargo_metadata::Message;
use podwork_platform::{HandlerSchema, Platform, Rules};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::args::Dev;
use crate::processes::{Interrupts, WorkerProcess, ask};
use crate::project::sources::SourceWatcher;
use crate::project::{NO_CARGO, Project};

/// The time for which the platform holds a poll open. It is short, because a worker shuts down only after its open
/// poll, and `dev` replaces workers often.
const POLL_HOLD: Duration = Duration::from_millis(500);

/// The limit on the time of `--rp_schema`. A worker handles it first, unless its `fn main` does other work before.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn dev(args: Dev) -> Result<ExitCode> {
    let project = Project::find(&args.worker)?;
    let mut signals = Interrupts::new()?;
    let mut rules = Rules::default();
    rules.poll_hold = POLL_HOLD;
    let mut builder = Platform::builder().bind(&args.host, args.port).rules(rules);
    if let Some(key) = &args.api_key {
        builder = builder.api_key(key);
    }
    if let Some(example) = project.test_input() {
        builder = builder.example(&example);
    }
    let platform = builder.start().await;
    // The message of the platform's error contains its cause.
    let platform = platform.map_err(|error| anyhow!("{error} (--port, --host)"))?;
    say(&format!(
        "Console: {}/   Press Ctrl-C to stop.",
        platform.url()
    ));
    let watch = SourceWatcher::start(&project.local, &project.workspace, &project.target_dir)?;
    let mut dev = Loop {
        project,
        args,
        platform,
        watch,
        worker: None,
        started: 0,
    };
    // Both must shut down whatever ended the loop.
    let ended = tokio::select! {
        ended = dev.run() => ended,
        () = signals.next() => Ok(()),
    };
    dev.end(&mut signals).await?;
    ended.map(|()| ExitCode::SUCCESS)
}

fn say(text: &str) {
    println!("podwork | {text}");
}

struct Loop {
    project: Project,
    args: Dev,
    platform: Platform,
    watch: SourceWatcher,
    worker: Option<Running>,
    started: usize,
}

/// A worker process, and its build.
struct Running {
    worker: WorkerProcess,
    build: Build,
}

/// A binary, and the time of its build.
#[derive(PartialEq, Eq)]
struct Build {
    path: PathBuf,
    at: SystemTime,
}

impl Loop {
    async fn run(&mut self) -> Result<()> {
        loop {
            match self.build().await? {
                None => say(match self.worker {
                    Some(_) => "Build failed; the previous build keeps running.",
                    None => "Build failed; jobs wait in the queue until a build succeeds.",
                }),
                Some(build)
                    if self
                        .worker
                        .as_ref()
                        .is_some_and(|running| running.build == build) =>
                {
                    say("The worker is unchanged; not restarting it.");
                }
                Some(build) => self.replace(build).await?,
            }
            self.until_changed().await?;
        }
    }

    /// Builds the worker. Returns `None` if the build failed; cargo has printed the errors.
    async fn build(&self) -> Result<Option<Build>> {
        say("Building …");
        let mut command = Command::from(self.project.build(&self.args.worker, self.args.release));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context(NO_CARGO)?;
        let mut built = None;
        if let Some(out) = child.stdout.take() {
            let mut lines = BufReader::new(out).lines();
            while let Some(line) = lines.next_line().await? {
                if let Ok(Message::CompilerArtifact(artifact)) = serde_json::from_str(&line) {
                    built = artifact.executable.or(built);
                }
            }
        }
        if !child.wait().await?.success() {
            return Ok(None);
        }
        let path = built.context("cargo built no binary")?.into_std_path_buf();
        Ok(Some(Build {
            at: modified(&path)?,
            path,
        }))
    }

    /// Replaces the worker with one of this build, once its jobs in flight have ended.
    async fn replace(&mut self, build: Build) -> Result<()> {
        if let Some(old) = &mut self.worker {
            let id = &old.worker.id;
            say(&format!(
                "Built. {id} is finishing its jobs; cancel them in the console to switch sooner."
            ));
            old.worker.terminate();
            old.worker.ended().await?;
            self.worker = None;
        }
        self.platform.set_schema(self.schema(&build).await);
        self.started += 1;
        let id = format!("dev-{}", self.started);
        let worker = WorkerProcess::start(
            id.clone(),
            &build.path,
            &self.args.worker_args,
            &self.project.folder,
            self.platform.worker_env(&id),
        )?;
        self.worker = Some(Running { worker, build });
        say(&format!("{id} is running this build."));
        Ok(())
    }

    /// Returns the schema of the worker's handler, if it has one.
    async fn schema(&self, build: &Build) -> Option<HandlerSchema> {
        let mut args = self.args.worker_args.clone();
        args.push("--rp_schema".to_owned());
        let asked = ask(&build.path, &args, &self.project.folder, PATIENCE).await;
        let Ok(told) = asked else {
            say(&format!(
                "No schema: the worker did not answer `--rp_schema` within {PATIENCE:?}. Does `fn main` do slow work \
                 before it starts podwork?"
            ));
            return None;
        };
        let schema = serde_json::from_slice(&told?);
        if schema.is_err() {
            say(
                "No schema: `--rp_schema` did not print valid JSON. Does `fn main` print before it starts podwork?",
            );
        }
        schema.ok()
    }

    /// Waits for a change of the sources, and reports it if the worker exits meanwhile.
    async fn until_changed(&mut self) -> Result<()> {
        let Some(running) = &mut self.worker else {
            return self.watch.changed().await;
        };
        tokio::select! {
            changed = self.watch.changed() => return changed,
            status = running.worker.ended() => {
                let id = &running.worker.id;
                say(&format!("{id} exited ({}). Jobs wait in the queue; a change starts it again.", status?));
            }
        }
        self.worker = None;
        self.watch.changed().await
    }

    /// Shuts down the worker, then the platform. Another signal kills the worker.
    async fn end(self, signals: &mut Interrupts) -> Result<()> {
        if let Some(mut running) = self.worker {
            say("Shutting down: the worker is finishing its jobs. Press Ctrl-C again to kill it.");
            running.worker.terminate();
            let ended = tokio::select! {
                status = running.worker.ended() => Some(status),
                () = signals.next() => None,
            };
            if ended.is_none() {
                running.worker.kill();
                running.worker.ended().await?;
            }
        }
        self.platform.shutdown().await;
        say("Stopped.");
        Ok(())
    }
}

fn modified(path: &Path) -> Result<SystemTime> {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.with_context(|| format!("cannot read {}", path.display()))
}
