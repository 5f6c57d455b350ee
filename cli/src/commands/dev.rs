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

/// A worker ends only after its open poll; it is replaced often here.
const POLL_HOLD: Duration = Duration::from_millis(500);

/// The limit on `--rp_schema`, which a worker handles before anything else, unless its `fn main` does more.
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
    say(&format!("Console: {}/   Ctrl-C ends all.", platform.url()));
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
                    Some(_) => "The build failed. The worker goes on as it was.",
                    None => "The build failed. Jobs wait for a build that does not.",
                }),
                Some(build)
                    if self
                        .worker
                        .as_ref()
                        .is_some_and(|running| running.build == build) =>
                {
                    say("Nothing changed in the worker.");
                }
                Some(build) => self.replace(build).await?,
            }
            self.until_changed().await?;
        }
    }

    /// Builds the worker; `None` if the build failed, as cargo has printed.
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

    /// Replaces the worker by one of this build, after its jobs in flight.
    async fn replace(&mut self, build: Build) -> Result<()> {
        if let Some(old) = &mut self.worker {
            let id = &old.worker.id;
            say(&format!(
                "Built. {id} ends its jobs first; cancel them in the console to be quicker."
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
        say(&format!("{id} runs this build."));
        Ok(())
    }

    /// Returns the schema of the worker's handler, if it has one.
    async fn schema(&self, build: &Build) -> Option<HandlerSchema> {
        let mut args = self.args.worker_args.clone();
        args.push("--rp_schema".to_owned());
        let asked = ask(&build.path, &args, &self.project.folder, PATIENCE).await;
        let Ok(told) = asked else {
            say(&format!(
                "No schema: the worker did not answer `--rp_schema` within {PATIENCE:?}. Does its `fn main` work before \
                 podwork runs?"
            ));
            return None;
        };
        let schema = serde_json::from_slice(&told?);
        if schema.is_err() {
            say(
                "No schema: `--rp_schema` did not print valid JSON. Does its `fn main` print before podwork runs?",
            );
        }
        schema.ok()
    }

    /// Waits for a change of the sources, and reports if the worker ends meanwhile.
    async fn until_changed(&mut self) -> Result<()> {
        let Some(running) = &mut self.worker else {
            return self.watch.changed().await;
        };
        tokio::select! {
            changed = self.watch.changed() => return changed,
            status = running.worker.ended() => {
                let id = &running.worker.id;
                say(&format!("{id} ended by itself ({}). Jobs wait; a change starts it again.", status?));
            }
        }
        self.worker = None;
        self.watch.changed().await
    }

    /// Ends the worker, then the platform. A further signal ends the worker at once.
    async fn end(self, signals: &mut Interrupts) -> Result<()> {
        if let Some(mut running) = self.worker {
            say("Ending: the worker ends its jobs first; Ctrl-C again ends it at once.");
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
        say("Ended.");
        Ok(())
    }
}

fn modified(path: &Path) -> Result<SystemTime> {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.with_context(|| format!("{} cannot be read", path.display()))
}
