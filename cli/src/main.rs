//! The command line tool `podwork`, which creates, runs and tests workers, and builds their images.

// Each module imports only from the modules below it.

// The commands of the tool, each in its own file or folder.
mod commands;

// The command line.
mod args;

// Image tools, and the build context.
mod image_build;

// The worker's crate: its cargo metadata, its sources, and the templates for new ones.
mod project;

// The client of an endpoint, local or at Runpod.
mod endpoint_client;

// Worker processes, and the signals that stop the tool.
mod processes;

// Standard output and standard error.
mod output;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use args::{Args, Command, UsageError};
use output::OutputClosed;
use podwork_platform::start_runtime;

/// The exit code of invalid arguments, which is also clap's.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // The tool starts its own program between itself and its child processes.
    #[cfg(unix)]
    if let Some(code) = podwork_supervisor::shim() {
        return code;
    }
    match run() {
        Ok(code) => code,
        // A reader such as `head` has all that it wants.
        Err(error) if error.is::<OutputClosed>() => ExitCode::SUCCESS,
        Err(error) => {
            output::note(format_args!("error: {error:#}"));
            if error.is::<UsageError>() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run() -> Result<ExitCode> {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(shown) => return show(&shown),
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = start_runtime(builder.enable_all()).context("cannot start an async runtime")?;
    let done = runtime.block_on(execute(args.command));
    // Does not wait for a task that is blocked because nobody reads the output.
    runtime.shutdown_background();
    done
}

/// Prints the help, the version, or an error in the arguments.
fn show(shown: &clap::Error) -> Result<ExitCode> {
    let printed = shown.print();
    if shown.use_stderr() {
        return Ok(ExitCode::from(USAGE));
    }
    output::written(printed)?;
    output::print("")?;
    Ok(ExitCode::SUCCESS)
}

async fn execute(command: Command) -> Result<ExitCode> {
    match command {
        Command::New(args) => commands::new(&args),
        Command::Dev(args) => commands::dev(args).await,
        Command::Invoke(args) => commands::invoke(args).await,
        Command::Image(args) => commands::image(&args),
        Command::Doctor(args) => commands::doctor(args).await,
        Command::Completions(args) => commands::completions(&args),
    }
}
