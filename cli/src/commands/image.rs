//! `podwork image`.

use std::process::{ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::args::Image;
use crate::image_build::{BuildContext, ImageTool, readable};
use crate::project::Project;
use crate::project::template::{DOCKERIGNORE, dockerfile};

pub(crate) fn image(args: &Image) -> Result<ExitCode> {
    let project = Project::find(&args.target)?;
    // The project's own Dockerfile may have been changed by its user. In a workspace it is the package's.
    let own = std::fs::read_to_string(project.folder.join("Dockerfile")).ok();
    let text = own.unwrap_or_else(|| dockerfile(&project.name));
    if args.print {
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let engine = match args.engine {
        Some(engine) => engine
            .works()
            .map(|()| engine)
            .map_err(|problem| anyhow::anyhow!("{}: {problem}", engine.name()))?,
        None => ImageTool::find()?,
    };
    let tag = args.tag.clone().unwrap_or_else(|| {
        // Names of images are in small letters.
        format!("{}:{}", project.name.to_lowercase(), project.version)
    });

    let context = BuildContext::of(&project)?;
    let files = tempfile::tempdir().context("no temporary folder can be made")?;
    let file = files.path().join("Dockerfile");
    std::fs::write(&file, text).context("the Dockerfile cannot be written")?;

    let started = Instant::now();
    let mut command = engine.build(&tag);
    // The context's own counts where there is one.
    if !context.path().join(".dockerignore").exists() {
        let ignore = files.path().join("Dockerfile.dockerignore");
        std::fs::write(&ignore, DOCKERIGNORE).context("the .dockerignore cannot be written")?;
        engine.ignore(&mut command, &ignore);
    }
    command
        .arg("--file")
        .arg(&file)
        .args(["--build-arg", &format!("CRATE={}", project.name)])
        .args(["--build-arg", &format!("BIN={}", project.bin)]);
    if let Some(features) = &args.target.features {
        command.args(["--build-arg", &format!("FEATURES={features}")]);
    }
    for argument in &args.build_arg {
        command.args(["--build-arg", argument]);
    }
    command
        .args(&args.engine_args)
        .arg(context.path())
        .stdin(Stdio::null());
    if args.json {
        // Standard output is for the one object.
        command.stdout(std::io::stderr());
    }
    eprintln!("Building {tag} with {} …", engine.name());
    let status = command
        .status()
        .with_context(|| format!("{} cannot be started", engine.name()))?;
    if !status.success() {
        bail!(
            "{} could not build {tag} ({status}); what it said stands above",
            engine.name()
        );
    }
    let built = engine.inspect(&tag)?;
    let seconds = started.elapsed().as_secs();
    if args.json {
        let object = json!({
            "tag": tag,
            "engine": engine,
            "bytes": built.bytes,
            "layers": built.layers,
            "seconds": seconds,
        });
        println!("{object}");
    } else {
        println!(
            "{tag}: {}, {} layers, built in {seconds} s",
            readable(built.bytes),
            built.layers
        );
    }
    Ok(ExitCode::SUCCESS)
}
