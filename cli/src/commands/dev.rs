//! `podwork dev`: one platform, and a worker that is rebuilt after each change.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use cargo_metadata::Message;
use podwork_platform::{Builder, HandlerSchema, Platform, Rules};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tracing::Level;

use crate::args::Dev;
use crate::output::{lost, report};
use crate::processes::{Interrupts, ProcessGroup, Supervised, WorkerProcess, ask, describe};
use crate::project::sources::{DuringBuild, SourceWatcher};
use crate::project::{NO_CARGO, Project, env_file};

/// The time for which the platform holds a poll open. It is short, because a worker shuts down only after its open
/// poll, and `dev` replaces workers often.
const POLL_HOLD: Duration = Duration::from_millis(500);

/// The limit on the time of `--rp_schema`. A worker handles it first, unless its `fn main` does other work before.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) async fn dev(args: Dev) -> Result<ExitCode> {
    show_warnings();
    let project = Project::find(&args.worker)?;
    let mut signals = Interrupts::new()?;
    let mut builder = platform(&args);
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
    let env_files = env_files(&project, &args)?;
    let watch = SourceWatcher::start(&project, &env_files, args.poll);
    let mut dev = Loop {
        run: run_id(),
        env_files,
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
        _ = signals.next() => Ok(()),
        error = lost() => Err(error),
    };
    dev.end(&mut signals).await?;
    ended.map(|()| ExitCode::SUCCESS)
}

/// Writes the warnings of the local platform to standard error, such as those of webhooks that fail.
fn show_warnings() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(Level::WARN)
        .with_target(false)
        .without_time()
        // It would report a closed standard error by a panic.
        .log_internal_errors(false)
        .init();
}

/// Returns the builder of the local platform.
fn platform(args: &Dev) -> Builder {
    let mut rules = Rules::default();
    rules.poll_hold = POLL_HOLD;
    let mut builder = Platform::builder().bind(&args.host, args.port).rules(rules);
    if args.allow_private_webhooks {
        builder = builder.allow_private_webhooks(true);
    }
    if let Some(key) = &args.api_key {
        builder = builder.api_key(key);
    }
    for host in &args.allow_host {
        builder = builder.allow_host(host);
    }
    for origin in &args.allow_origin {
        builder = builder.allow_origin(origin);
    }
    builder
}

/// Returns the files with the worker's variables: those of the command line, or the default one, which may be missing.
fn env_files(project: &Project, args: &Dev) -> Result<Vec<PathBuf>> {
    if args.env_file.is_empty() {
        return Ok(vec![project.folder.join(env_file::DEFAULT)]);
    }
    let files = args.env_file.iter().map(|file| {
        let full = std::path::absolute(file).context("cannot find the current folder")?;
        if !full.is_file() {
            bail!("file not found: {} (--env-file)", file.display());
        }
        Ok(full)
    });
    files.collect()
}

/// Returns a random part of worker ids. A worker of an earlier run may still post to this port.
fn run_id() -> String {
    format!("{:06x}", RandomState::new().hash_one(0) & 0x00ff_ffff)
}

fn say(text: &str) {
    report(format_args!("podwork | {text}"));
}

struct Loop {
    run: String,
    env_files: Vec<PathBuf>,
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
    variables: Variables,
}

/// The variables of the files.
type Variables = BTreeMap<String, String>;

/// A binary, and the time of its build.
#[derive(PartialEq, Eq)]
struct Build {
    path: PathBuf,
    at: SystemTime,
}

impl Loop {
    async fn run(&mut self) -> Result<()> {
        loop {
            self.watch.before_build();
            let build = self.build().await?;
            let during = self
                .watch
                .after_build(build.as_ref().map(|build| &*build.path));
            if let Some(reason) = self.watch.poll_reason() {
                say(&format!(
                    "Looking at the sources every second, as with --poll: {reason}"
                ));
            }
            match during {
                DuringBuild::Unchanged => {}
                DuringBuild::Changed => {
                    say("The sources have changed during the build.");
                    continue;
                }
                DuringBuild::AlwaysChanged => say(
                    "The sources change during each build; not building again until the next change. Does a build \
                     script write them?",
                ),
            }
            self.apply(build).await?;
            self.until_changed().await?;
        }
    }

    /// Starts a build, or keeps the worker if it failed or is that of the worker.
    async fn apply(&mut self, build: Option<Build>) -> Result<()> {
        let kept = match self.worker {
            Some(_) => "the previous build keeps running",
            None => "jobs wait in the queue until a build succeeds",
        };
        let Some(build) = build else {
            say(&format!("Build failed; {kept}."));
            return Ok(());
        };
        let variables = match self.variables() {
            Ok(variables) => variables,
            Err(error) => {
                say(&format!("{error:#}; {kept}."));
                return Ok(());
            }
        };
        let is_same = |running: &Running| running.build == build && running.variables == variables;
        if self.worker.as_ref().is_some_and(is_same) {
            say("The worker is unchanged; not restarting it.");
            return Ok(());
        }
        self.replace(build, variables).await
    }

    /// Reads the variables of the files that this process does not have.
    fn variables(&self) -> Result<Variables> {
        let mut variables = Variables::new();
        for file in &self.env_files {
            if file.exists() {
                variables.extend(env_file::read(file)?);
            }
        }
        variables.retain(|name, _| std::env::var_os(name).is_none());
        Ok(variables)
    }

    /// Builds the worker. Returns `None` if the build failed; cargo has printed the errors.
    async fn build(&self) -> Result<Option<Build>> {
        say("Building …");
        let command = self.project.build(&self.args.worker, self.args.release);
        // Cargo may ask for a password.
        let mut child = Supervised::start(&command, ProcessGroup::Terminal, |command| {
            command.stdout(Stdio::piped());
        })
        .context(NO_CARGO)?;
        let mut built = None;
        if let Some(out) = child.stdout() {
            let mut lines = BufReader::new(out).lines();
            while let Some(line) = lines.next_line().await? {
                if let Ok(Message::CompilerArtifact(artifact)) = serde_json::from_str(&line) {
                    built = artifact.executable.or(built);
                }
            }
        }
        let status = child.wait().await?;
        // The code with which a shell, too, reports a missing program.
        if status.code() == Some(127) {
            bail!(NO_CARGO);
        }
        if !status.success() {
            return Ok(None);
        }
        let path = built.context("cargo built no binary")?.into_std_path_buf();
        Ok(Some(Build {
            at: modified(&path)?,
            path,
        }))
    }

    /// Replaces the worker with one of this build, once its jobs in flight have ended.
    async fn replace(&mut self, build: Build, variables: Variables) -> Result<()> {
        if let Some(old) = &mut self.worker {
            let id = &old.worker.id;
            say(&format!(
                "Built. {id} is finishing its jobs; cancel them in the console to switch sooner."
            ));
            old.worker.terminate();
            old.worker.ended().await?;
            self.platform.remove_worker(&old.worker.id);
            self.worker = None;
        }
        let schema = self.schema(&build, &variables).await;
        self.platform.set_schema(schema);
        self.started += 1;
        let id = format!("dev-{}-{}", self.started, self.run);
        let mut command = self.command(&build, &variables);
        command.envs(self.platform.worker_env(&id));
        let worker = WorkerProcess::start(id.clone(), &command)?;
        self.worker = Some(Running {
            worker,
            build,
            variables,
        });
        say(&format!("{id} is running this build."));
        Ok(())
    }

    /// Returns the command that runs a build, without the platform's variables.
    fn command(&self, build: &Build, variables: &Variables) -> Command {
        let mut command = Command::new(&build.path);
        command
            .args(&self.args.worker_args)
            .current_dir(&self.project.folder)
            .envs(variables);
        command
    }

    /// Returns the schema of the worker's handler, if it has one.
    async fn schema(&self, build: &Build, variables: &Variables) -> Option<HandlerSchema> {
        let mut command = self.command(build, variables);
        command.arg("--rp_schema");
        let asked = ask(command, PATIENCE).await;
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
            self.watch.changed().await;
            return Ok(());
        };
        let status = tokio::select! {
            () = self.watch.changed() => return Ok(()),
            status = running.worker.ended() => status?,
        };
        let id = &running.worker.id;
        say(&format!(
            "{id} exited ({}). Jobs wait in the queue; a change starts it again.",
            describe(status)
        ));
        self.platform.remove_worker(id);
        self.worker = None;
        self.watch.changed().await;
        Ok(())
    }

    /// Shuts down the worker, then the platform. Another signal kills the worker.
    async fn end(self, signals: &mut Interrupts) -> Result<()> {
        if let Some(mut running) = self.worker {
            say("Shutting down: the worker is finishing its jobs. Press Ctrl-C again to kill it.");
            running.worker.terminate();
            let ended = tokio::select! {
                status = running.worker.ended() => Some(status),
                _ = signals.next() => None,
            };
            if ended.is_none() {
                running.worker.kill().await;
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};

    async fn started(options: &[&str]) -> Result<Platform, podwork_platform::Error> {
        let args = [&["podwork", "dev", "--port", "0"][..], options].concat();
        let Command::Dev(dev) = Args::parse_from(args).command else {
            panic!("`dev` parses to its own arguments");
        };
        platform(&dev).start().await
    }

    #[tokio::test]
    async fn the_options_configure_the_platform() {
        let options = [
            "--allow-host",
            "p",
            "--allow-origin",
            "http://localhost:3000",
            "--api-key",
            "k",
        ];
        started(&options).await.unwrap();
        for (options, problem) in [
            (["--api-key", ""], "invalid API key: it is empty"),
            (
                ["--allow-host", "http://p"],
                "invalid allowed host `http://p`",
            ),
            (["--allow-origin", "*"], "invalid allowed origin `*`"),
        ] {
            let error = started(&options).await.unwrap_err().to_string();
            assert!(error.starts_with(problem), "{error}");
        }
    }
}
