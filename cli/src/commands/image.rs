//! `podwork image`.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::json;

use crate::args::Image;
use crate::image_build::{BuildContext, BuiltImage, ImageTool, readable};
use crate::output::{note, print, print_line};
use crate::project::Project;
use crate::project::template::{DOCKERIGNORE, dockerfile};

pub(crate) fn image(args: &Image) -> Result<ExitCode> {
    let project = Project::find(&args.worker)?;
    // The user may have changed the package's own Dockerfile.
    let own = std::fs::read_to_string(project.folder.join("Dockerfile")).ok();
    let text = own.unwrap_or_else(|| dockerfile(&project.name));
    if args.print {
        print(text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let tool = tool(args.engine)?;
    let tag = args.tag.clone().unwrap_or_else(|| {
        // Image names are lower case.
        format!("{}:{}", project.name.to_lowercase(), project.version)
    });

    let context = BuildContext::of(&project)?;
    let files = tempfile::tempdir().context("cannot create a temporary folder")?;
    std::fs::write(files.path().join("Dockerfile"), text).context("cannot write the Dockerfile")?;
    let started = Instant::now();
    let mut build = tool.build(&tag);
    add_ignore_file(&mut build, tool, context.path(), files.path())?;
    build.arg("--file").arg(files.path().join("Dockerfile"));
    add_arguments(&mut build, args, &project);
    build.arg(context.path());
    run(build, tool, &tag)?;
    report(args, tool, &tag, &tool.inspect(&tag)?, started.elapsed())?;
    Ok(ExitCode::SUCCESS)
}

fn tool(wanted: Option<ImageTool>) -> Result<ImageTool> {
    match wanted {
        Some(tool) => tool
            .works()
            .map(|()| tool)
            .map_err(|problem| anyhow!("{}: {problem}", tool.name())),
        None => ImageTool::find().map_err(|problems| {
            anyhow!(
                "no working image tool found; install or start docker, podman or buildah ({problems})"
            )
        }),
    }
}

/// Adds the template's `.dockerignore`, unless the build context has its own.
fn add_ignore_file(
    build: &mut Command,
    tool: ImageTool,
    context: &Path,
    files: &Path,
) -> Result<()> {
    if !context.join(".dockerignore").exists() {
        let ignore = files.join("Dockerfile.dockerignore");
        std::fs::write(&ignore, DOCKERIGNORE).context("cannot write the .dockerignore")?;
        tool.ignore(build, &ignore);
    }
    Ok(())
}

/// Adds the build arguments, and the user's own arguments for the tool.
fn add_arguments(build: &mut Command, args: &Image, project: &Project) {
    build
        .args(["--build-arg", &format!("CRATE={}", project.name)])
        .args(["--build-arg", &format!("BIN={}", project.bin)]);
    if let Some(features) = &args.worker.features {
        build.args(["--build-arg", &format!("FEATURES={features}")]);
    }
    for argument in &args.build_arg {
        build.args(["--build-arg", argument]);
    }
    build.args(&args.engine_args);
    if args.json {
        // Standard output is reserved for the JSON object.
        build.stdout(std::io::stderr());
    }
}

fn run(mut build: Command, tool: ImageTool, tag: &str) -> Result<()> {
    let name = tool.name();
    note(format_args!("Building {tag} with {name} …"));
    let status = build
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} failed to build {tag} ({status}); see its output above");
    }
    Ok(())
}

fn report(
    args: &Image,
    tool: ImageTool,
    tag: &str,
    built: &BuiltImage,
    elapsed: Duration,
) -> Result<()> {
    let BuiltImage { bytes, layers } = built;
    let seconds = elapsed.as_secs();
    if args.json {
        let object = json!({
            "tag": tag,
            "engine": tool,
            "bytes": bytes,
            "layers": layers,
            "seconds": seconds,
        });
        print_line(object)
    } else {
        print_line(format_args!(
            "{tag}: {}, {layers} layers, built in {seconds} s",
            readable(*bytes)
        ))
    }
}
