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

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::New(args) => commands::new(&args),
        Command::Dev(args) => commands::dev(args).await,
        Command::Invoke(args) => commands::invoke(args).await,
        Command::Image(args) => commands::image(&args),
        Command::Doctor(args) => commands::doctor(args).await,
        Command::Completions(args) => Ok(commands::completions(&args)),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
