//! `podwork doctor`.

use std::net::TcpListener;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum as _;
use podwork_protocol::client::RunRequest;
use podwork_protocol::env;
use serde::Serialize;
use serde_json::json;

use crate::args::Doctor;
use crate::endpoint_client::{EndpointClient, RUNPOD};
use crate::image_build::ImageTool;
use crate::project::{Project, WorkerSelection};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Good,
    /// Something that only some need is not there.
    Note,
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
}

impl Finding {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        let (found, verdict) = (found.into(), Verdict::Good);
        Self {
            name,
            verdict,
            found,
            cure: None,
        }
    }

    fn note(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        let (found, cure, verdict) = (found.into(), Some(cure.into()), Verdict::Note);
        Self {
            name,
            verdict,
            found,
            cure,
        }
    }

    fn bad(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Bad,
            ..Self::note(name, found, cure)
        }
    }
}

pub(crate) async fn doctor(args: Doctor) -> Result<ExitCode> {
    let findings = [
        rust(),
        c_compiler(),
        worker(),
        image_tool(),
        environment(|name| std::env::var(name).ok()),
        port(args.port),
        endpoint(&args).await,
    ];
    let fit = findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Bad);
    if args.json {
        println!("{}", json!({ "fit": fit, "findings": findings }));
    } else {
        for Finding {
            name,
            verdict,
            found,
            cure,
        } in &findings
        {
            let sign = match verdict {
                Verdict::Good => "ok",
                Verdict::Note => "note",
                Verdict::Bad => "BAD",
            };
            println!("{sign:<5}{name:<12}{found}");
            if let Some(cure) = cure {
                println!("{:17}→ {cure}", "");
            }
        }
    }
    Ok(if fit {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What a program says, or that it is not there.
fn ask(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn rust() -> Finding {
    let (name, least) = ("rust", env!("CARGO_PKG_RUST_VERSION"));
    let cure = format!(
        "install Rust {least} or later from https://rustup.rs, or update it: rustup update stable"
    );
    let Some(said) = ask("rustc", &["--version"]) else {
        return Finding::bad(name, "rustc is not installed", cure);
    };
    let version = said.split_whitespace().nth(1).unwrap_or_default();
    if numbers(version) < numbers(least) {
        return Finding::bad(name, format!("{said}, and podwork needs {least}"), cure);
    }
    match ask("cargo", &["--version"]) {
        Some(cargo) => Finding::good(name, format!("{said}; {cargo}")),
        None => Finding::bad(name, "cargo is not installed", cure),
    }
}

/// Major and minor.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split(['.', '-'])
        .map_while(|part| part.parse().ok())
        .take(2)
        .collect()
}

fn c_compiler() -> Finding {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    match ask(&compiler, &["--version"]) {
        Some(said) => Finding::good("C compiler", said.lines().next().unwrap_or_default()),
        None => Finding::bad(
            "C compiler",
            format!("`{compiler}` is not there, and the TLS library is built with it"),
            "install gcc or clang, such as by: apt-get install gcc libc6-dev; on macOS: xcode-select --install",
        ),
    }
}

fn worker() -> Finding {
    let name = "worker";
    let target = WorkerSelection {
        package: None,
        bin: None,
        features: None,
    };
    let project = match Project::find(&target) {
        Ok(project) => project,
        Err(error) => {
            let found = format!(
                "none in this folder: {}",
                error.to_string().lines().next().unwrap_or_default()
            );
            return Finding::note(name, found, "podwork new NAME makes one");
        }
    };
    let Some(text) = project.test_input() else {
        return Finding::note(
            name,
            format!("{}, without a test_input.json", project.name),
            r#"write {"input": …} into test_input.json: `cargo run` and `podwork invoke` take it"#,
        );
    };
    match serde_json::from_str::<RunRequest>(&text) {
        Ok(_) => Finding::good(
            name,
            format!("{} {}, with test_input.json", project.name, project.version),
        ),
        Err(error) => Finding::bad(
            name,
            format!("test_input.json of {}: {error}", project.name),
            r#"write {"input": …}, with what the handler takes in place of the dots"#,
        ),
    }
}

fn image_tool() -> Finding {
    let mut problems = Vec::new();
    for engine in ImageTool::value_variants() {
        match engine.works() {
            Ok(()) => return Finding::good("image tool", engine.name()),
            Err(problem) => problems.push(format!("{}: {problem}", engine.name())),
        }
    }
    let cure = "install docker, podman or buildah (apt-get install buildah) for `podwork image`";
    Finding::note("image tool", problems.join("; "), cure)
}

/// The worker's variables: none at home, and on the platform those that belong together.
fn environment(get: impl Fn(&str) -> Option<String>) -> Finding {
    let name = "environment";
    let set = |variable: &str| get(variable).is_some_and(|value| !value.trim().is_empty());
    if !set(env::GET_JOB) {
        let key = if set("RUNPOD_API_KEY") {
            "RUNPOD_API_KEY is set"
        } else {
            "RUNPOD_API_KEY is not set"
        };
        return Finding::good(
            name,
            format!(
                "workers run locally here ({} is not set); {key}",
                env::GET_JOB
            ),
        );
    }
    let missing: Vec<&str> = [
        env::POST_OUTPUT,
        env::POST_STREAM,
        env::PING,
        env::API_KEY,
        env::POD_ID,
    ]
    .into_iter()
    .filter(|variable| !set(variable))
    .collect();
    if !set(env::POST_OUTPUT) {
        return Finding::bad(
            name,
            format!("{} is set, and {} is not", env::GET_JOB, env::POST_OUTPUT),
            "a worker started here cannot post its results: set all of the platform's variables, or none",
        );
    }
    if missing.is_empty() {
        return Finding::good(
            name,
            "workers started here pull from the platform of RUNPOD_WEBHOOK_GET_JOB",
        );
    }
    Finding::note(
        name,
        format!("not set: {}", missing.join(", ")),
        "without them a worker cannot stream, sends no heartbeat, shows no key or takes a random id",
    )
}

fn port(port: u16) -> Finding {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Finding::good("port", format!("{port} is free")),
        Err(error) => Finding::note(
            "port",
            format!("{port}: {error}"),
            "`podwork dev` may run already; it takes another by --port",
        ),
    }
}

async fn endpoint(args: &Doctor) -> Finding {
    const PATIENCE: Duration = Duration::from_secs(10);

    let name = "endpoint";
    let Some(wanted) = &args.endpoint else {
        return platform(name).await;
    };
    let asked = async {
        EndpointClient::new(wanted, args.api_key.as_deref())?
            .health()
            .await
    };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(health)) => Finding::good(
            name,
            format!(
                "{wanted} answers; workers ready: {}, jobs waiting: {}",
                health.workers.ready, health.jobs.in_queue
            ),
        ),
        Ok(Err(error)) => Finding::bad(
            name,
            format!("{error:#}"),
            "check the address, and RUNPOD_API_KEY",
        ),
        Err(_) => Finding::bad(
            name,
            format!("{wanted} does not answer within 10 s"),
            "check the address and the network",
        ),
    }
}

/// Whether Runpod can be reached, which only who deploys needs.
async fn platform(name: &'static str) -> Finding {
    let host = RUNPOD
        .trim_start_matches("https://")
        .split('/')
        .next()
        .unwrap_or_default();
    let connecting = tokio::net::TcpStream::connect((host, 443));
    let connected = tokio::time::timeout(Duration::from_secs(5), connecting).await;
    let problem = match connected {
        Ok(Ok(_)) => {
            return Finding::good(
                name,
                format!("{host} can be reached; --endpoint checks yours"),
            );
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no connection within 5 s".to_owned(),
    };
    Finding::note(
        name,
        format!("{host}: {problem}"),
        "only endpoints at Runpod need it; a local one is checked by --endpoint http://localhost:8000",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.100.0-nightly") > numbers("1.95"));
        assert!(numbers("1.94.1") < numbers("1.95"));
    }

    #[test]
    fn variables_that_belong_together_are_asked_for_together() {
        let verdict =
            |set: &[&str]| environment(|name| set.contains(&name).then(|| "x".to_owned())).verdict;
        assert_eq!(verdict(&[]), Verdict::Good);
        assert_eq!(verdict(&[env::GET_JOB]), Verdict::Bad);
        assert_eq!(verdict(&[env::GET_JOB, env::POST_OUTPUT]), Verdict::Note);
        let all = [
            env::GET_JOB,
            env::POST_OUTPUT,
            env::POST_STREAM,
            env::PING,
            env::API_KEY,
            env::POD_ID,
        ];
        assert_eq!(verdict(&all), Verdict::Good);
    }
}
