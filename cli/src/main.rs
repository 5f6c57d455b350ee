//! `podwork`: from an empty folder to a worker image.

mod args;
mod commands;
mod endpoint_client;
mod image_build;
mod processes;
mod project;

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
