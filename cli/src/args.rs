//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::image_build::ImageTool;
use crate::project::WorkerSelection;
use crate::project::template::Template;

/// Create, run and test workers for Runpod Serverless, and build their images
#[derive(Debug, Parser)]
#[command(name = "podwork", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    New(New),
    Dev(Dev),
    Invoke(Invoke),
    Image(Image),
    Doctor(Doctor),
    Completions(Completions),
}

/// Create a worker: a crate with a handler, tests, a test job, a Dockerfile and a README
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// Folder to create; its last component becomes the crate name
    pub(crate) name: PathBuf,

    /// Template to start from
    #[arg(long, value_enum, default_value_t = Template::Hello)]
    pub(crate) template: Template,

    /// Local checkout of podwork to depend on, instead of the published version
    #[arg(long, value_name = "DIR", env = "PODWORK_PATH")]
    pub(crate) podwork_path: Option<PathBuf>,
}

/// Run the worker on a local platform, and rebuild and restart it after each change
#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    #[command(flatten)]
    pub(crate) worker: WorkerSelection,

    /// Build in release mode, with optimisations
    #[arg(long)]
    pub(crate) release: bool,

    /// Port of the local platform; 0 picks a free port
    #[arg(long, default_value_t = 8000)]
    pub(crate) port: u16,

    /// Host on which the local platform listens; a name stands for all its addresses on this machine
    #[arg(long, default_value = "localhost")]
    pub(crate) host: String,

    /// API key that clients of the local platform must send. Default: no key is required
    #[arg(long, env = "PODWORK_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,

    /// Further name of the local platform in the `Host` header. Without an API key, it answers only to `localhost`,
    /// addresses and these names; can be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,

    /// Origin whose pages may call the local platform, such as `http://localhost:3000`; can be repeated
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,

    /// Call webhooks at addresses that are not public, even if the local platform listens on other addresses than
    /// loopback
    #[arg(long)]
    pub(crate) allow_private_webhooks: bool,

    /// File with environment variables for the worker, one NAME=VALUE a line; can be repeated. Variables of the shell
    /// take precedence. Default: `.env` in the package's folder, if it exists
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,

    /// Look at the sources every second, for file systems that report no changes, such as some mounts in containers
    #[arg(long)]
    pub(crate) poll: bool,

    /// Arguments for the worker, after `--`
    #[arg(last = true)]
    pub(crate) worker_args: Vec<String>,
}

/// Run a job on a local or a Runpod endpoint, and show its progress and result
///
/// Exit code: 0 completed, 1 failed, 2 invalid arguments, 3 cancelled, 4 timed out, 5 no usable answer from the
/// endpoint. Ctrl-C or SIGTERM cancels the job; a second one, 1.5 s later or more, exits immediately, with code 130 or
/// 143.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Invoke {
    /// Input as JSON, `@file`, or `-` for standard input. An object with the key `input` is the whole request, which may
    /// also have `policy`, `webhook` and `s3Config`, but nothing else. Default: `test_input.json`
    #[arg(long, short, value_name = "JSON|@FILE")]
    pub(crate) data: Option<String>,

    /// URL of the endpoint, or the id of a Runpod endpoint
    #[arg(
        long,
        short,
        env = "PODWORK_ENDPOINT",
        default_value = "http://127.0.0.1:8000"
    )]
    pub(crate) endpoint: String,

    /// API key of the endpoint. Prefer the environment variable: other users of the machine can see arguments
    #[arg(long, env = "RUNPOD_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,

    /// Show the chunks of the stream as they arrive; if no chunk arrives, show the output
    #[arg(long, short)]
    pub(crate) stream: bool,

    /// Print a single JSON object at the end, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

/// Build the worker's image with docker, podman or buildah, whichever is installed
#[derive(Debug, clap::Args)]
pub(crate) struct Image {
    #[command(flatten)]
    pub(crate) worker: WorkerSelection,

    /// Name and tag of the image. Default: the package's name and version
    #[arg(long, short)]
    pub(crate) tag: Option<String>,

    /// Tool to build with. Default: the first that works
    #[arg(long, value_enum)]
    pub(crate) engine: Option<ImageTool>,

    /// Build argument of the Dockerfile, such as `RUNTIME_IMAGE=…`; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) build_arg: Vec<String>,

    /// Print the Dockerfile to standard output, and build nothing
    #[arg(long)]
    pub(crate) print: bool,

    /// Print a single JSON object at the end
    #[arg(long)]
    pub(crate) json: bool,

    /// Arguments for the tool's build command, after `--`
    #[arg(last = true)]
    pub(crate) engine_args: Vec<String>,
}

/// Check that this machine has what workers need, and show how to fix what is missing
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Endpoint to check: a URL, or the id of a Runpod endpoint. Default: checks only that Runpod is reachable
    #[arg(long, short, env = "PODWORK_ENDPOINT")]
    pub(crate) endpoint: Option<String>,

    /// API key of the endpoint
    #[arg(long, env = "RUNPOD_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,

    /// Port that `podwork dev` will use
    #[arg(long, default_value_t = 8000)]
    pub(crate) port: u16,

    /// Print a single JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print shell completions
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// Shell to complete for
    pub(crate) shell: Shell,
}

/// An error in the arguments, or in a file that they name. The exit code is then that of invalid arguments.
#[derive(Debug)]
pub(crate) struct UsageError(String);

impl UsageError {
    pub(crate) fn of(error: anyhow::Error) -> anyhow::Error {
        Self(format!("{error:#}")).into()
    }
}

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use clap::{CommandFactory as _, Parser as _};

    use super::Args;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    /// Splits a line into words as a shell does.
    fn words(line: &str) -> Vec<String> {
        let script = format!("printf '%s\\0' {line}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success(), "{line}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.trim_end_matches('\0')
            .split('\0')
            .map(ToOwned::to_owned)
            .collect()
    }

    #[test]
    fn commands_in_the_documentation_are_valid() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let guide = std::fs::read_dir(root.join("docs/src")).unwrap();
        let mut pages: Vec<_> = guide.map(|file| file.unwrap().path()).collect();
        pages.push(root.join("README.md"));
        pages.push(root.join("cli/README.md"));
        pages.push(root.join("cli/templates/README.md"));
        let mut typed = 0;
        for page in pages {
            let text = std::fs::read_to_string(&page).unwrap();
            // Blocks are between fences: every second piece.
            let blocks = text.split("```").skip(1).step_by(2);
            let typed_in =
                |block: &&str| block.starts_with("sh\n") || block.starts_with("console\n");
            let blocks = blocks.filter(typed_in).flat_map(str::lines);
            for line in blocks.map(|line| line.trim().trim_start_matches("$ ")) {
                if !line.starts_with("podwork ") {
                    continue;
                }
                // A placeholder is one word.
                let line = line.replace("<endpoint id>", "abc123");
                Args::try_parse_from(words(&line))
                    .unwrap_or_else(|error| panic!("{}: {line}: {error}", page.display()));
                typed += 1;
            }
        }
        assert!(typed > 15, "{typed}");
    }
}
