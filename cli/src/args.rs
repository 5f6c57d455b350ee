//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use crate::image_build::ImageTool;
use crate::project::WorkerSelection;
use crate::project::template::Template;

/// From an empty folder to a worker image: new workers, a development loop, jobs from the shell, images.
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

/// Make a new worker: a crate with a handler, tests, a test job, a Dockerfile and a README
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// Folder to make; its last part is the crate's name
    pub(crate) name: PathBuf,

    /// What the handler shows
    #[arg(long, value_enum, default_value_t = Template::Hello)]
    pub(crate) template: Template,

    /// Checkout of podwork to depend on, instead of its published version
    #[arg(long, value_name = "DIR", env = "PODWORK_PATH")]
    pub(crate) podwork_path: Option<PathBuf>,
}

/// Build and run the worker here on a platform of its own, and again after each change
#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    #[command(flatten)]
    pub(crate) worker: WorkerSelection,

    /// Build with optimisations
    #[arg(long)]
    pub(crate) release: bool,

    /// Port of the platform; 0 for a free one
    #[arg(long, default_value_t = 8000)]
    pub(crate) port: u16,

    /// Host of the platform
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,

    /// Key that clients of the platform have to show; none unless it is set
    #[arg(long)]
    pub(crate) api_key: Option<String>,

    /// Arguments for the worker, behind `--`
    #[arg(last = true)]
    pub(crate) worker_args: Vec<String>,
}

/// Run a job at an endpoint, local or real, and show what becomes of it
///
/// Exit code: 0 completed, 1 failed, 2 wrong arguments, 3 cancelled, 4 timed out, 5 the endpoint gave no answer to work
/// with. Ctrl-C cancels the job; a second one leaves at once.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Invoke {
    /// The input as JSON, `@file`, or `-` for standard input; an object with the key `input` is the whole request.
    /// `test_input.json` unless it is set
    #[arg(long, short, value_name = "JSON|@FILE")]
    pub(crate) data: Option<String>,

    /// URL of the endpoint, or the id of one at Runpod
    #[arg(
        long,
        short,
        env = "PODWORK_ENDPOINT",
        default_value = "http://127.0.0.1:8000"
    )]
    pub(crate) endpoint: String,

    /// Key of the endpoint; better set in the environment, where other users of the machine do not see it
    #[arg(long, env = "RUNPOD_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,

    /// Show the chunks of the stream as they come
    #[arg(long, short)]
    pub(crate) stream: bool,

    /// Print one JSON object at the end, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

/// Build the worker's image with docker, podman or buildah, whichever is there
#[derive(Debug, clap::Args)]
pub(crate) struct Image {
    #[command(flatten)]
    pub(crate) worker: WorkerSelection,

    /// Name and tag of the image; the package's name and version unless it is set
    #[arg(long, short)]
    pub(crate) tag: Option<String>,

    /// Tool to build with
    #[arg(long, value_enum)]
    pub(crate) engine: Option<ImageTool>,

    /// A build argument of the Dockerfile, such as `RUNTIME_IMAGE=…`; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) build_arg: Vec<String>,

    /// Write the Dockerfile to standard output, and build nothing
    #[arg(long)]
    pub(crate) print: bool,

    /// Print one JSON object at the end
    #[arg(long)]
    pub(crate) json: bool,

    /// Arguments for the tool's build command, behind `--`
    #[arg(last = true)]
    pub(crate) engine_args: Vec<String>,
}

/// Check what workers need on this machine, and say what to do about what is missing
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Endpoint to reach, as `invoke` takes it; the platform's own address unless it is set
    #[arg(long, short, env = "PODWORK_ENDPOINT")]
    pub(crate) endpoint: Option<String>,

    /// Key of the endpoint
    #[arg(long, env = "RUNPOD_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,

    /// Port that `podwork dev` is to have
    #[arg(long, default_value_t = 8000)]
    pub(crate) port: u16,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print completions for a shell
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

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

    /// The words of a line, as a shell has them.
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
    fn what_the_documents_tell_to_type_can_be_typed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let guide = std::fs::read_dir(root.join("docs/src")).unwrap();
        let mut pages: Vec<_> = guide.map(|file| file.unwrap().path()).collect();
        pages.push(root.join("README.md"));
        pages.push(root.join("cli/README.md"));
        pages.push(root.join("cli/templates/README.md"));
        let mut typed = 0;
        for page in pages {
            let text = std::fs::read_to_string(&page).unwrap();
            // Blocks stand between fences: every second piece.
            let blocks = text.split("```").skip(1).step_by(2);
            let typed_in =
                |block: &&str| block.starts_with("sh\n") || block.starts_with("console\n");
            let blocks = blocks.filter(typed_in).flat_map(str::lines);
            for line in blocks.map(|line| line.trim().trim_start_matches("$ ")) {
                if !line.starts_with("podwork ") {
                    continue;
                }
                // What the reader is to fill in is a word too.
                let line = line.replace("<endpoint id>", "abc123");
                Args::try_parse_from(words(&line))
                    .unwrap_or_else(|error| panic!("{}: {line}: {error}", page.display()));
                typed += 1;
            }
        }
        assert!(typed > 15, "{typed}");
    }
}
