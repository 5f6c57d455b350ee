//! `podwork completions`.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::{Args, Completions};

pub(crate) fn completions(args: &Completions) -> ExitCode {
    let mut command = Args::command();
    clap_complete::generate(args.shell, &mut command, "podwork", &mut std::io::stdout());
    ExitCode::SUCCESS
}
