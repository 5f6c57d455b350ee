//! The checks.

use std::io;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use podwork_protocol::{WrittenRequest, env};

use super::finding::Finding;
use crate::endpoint_client::{EndpointClient, RUNPOD_HOST, RefusedCall};
use crate::image_build::ImageTool;
use crate::project::{CargoError, Project, WorkerSelection};

/// Runs a program, and returns what it prints, or why that failed.
fn ask(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{program} is not installed"),
            _ => format!("cannot run {program}: {error}"),
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let reason = CargoError::read(&stderr);
    Err(format!("{program} failed ({}): {reason}", output.status))
}

pub(super) fn rust() -> Finding {
    let (name, least) = ("rust", env!("CARGO_PKG_RUST_VERSION"));
    let cure = format!(
        "install Rust {least} or later from https://rustup.rs, or update it: rustup update stable"
    );
    let said = match ask("rustc", &["--version"]) {
        Ok(said) => said,
        Err(problem) => return Finding::bad(name, problem, cure),
    };
    let version = said.split_whitespace().nth(1).unwrap_or_default();
    if numbers(version) < numbers(least) {
        return Finding::bad(name, format!("{said}, but podwork needs {least}"), cure);
    }
    match ask("cargo", &["--version"]) {
        Ok(cargo) => Finding::good(name, format!("{said}; {cargo}")),
        Err(problem) => Finding::bad(name, problem, cure),
    }
}

/// Returns the major and minor version.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split(['.', '-'])
        .map_while(|part| part.parse().ok())
        .take(2)
        .collect()
}

pub(super) fn c_compiler() -> Finding {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    match ask(&compiler, &["--version"]) {
        Ok(said) => Finding::good("C compiler", said.lines().next().unwrap_or_default()),
        Err(problem) => Finding::bad(
            "C compiler",
            format!("{problem}; it builds the TLS library"),
            "install gcc or clang: apt-get install gcc libc6-dev; on macOS: xcode-select --install",
        ),
    }
}

pub(super) fn worker() -> Finding {
    let name = "worker";
    let project = match Project::find(&WorkerSelection::default()) {
        Ok(project) => project,
        Err(error) if error.is::<CargoError>() && has_manifest() => {
            return Finding::bad(
                name,
                format!("cargo cannot read this folder's package: {error}"),
                "fix Cargo.toml; `cargo metadata` shows the whole error",
            );
        }
        Err(error) if error.is::<CargoError>() => {
            return Finding::note(
                name,
                "no worker in this folder: no Cargo.toml here or in a parent folder",
                "create one: podwork new NAME",
            );
        }
        Err(error) => {
            let found = format!("no worker in this folder: {error:#}");
            return Finding::note(name, found, "create one: podwork new NAME");
        }
    };
    let text = match std::fs::read_to_string(project.folder.join("test_input.json")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Finding::note(
                name,
                format!("{} has no test_input.json", project.name),
                r#"write {"input": …} to test_input.json; `cargo run` and `podwork invoke` use it"#,
            );
        }
        Err(error) => {
            return Finding::bad(
                name,
                format!("test_input.json of {}: {error}", project.name),
                "make the file readable, and save it as UTF-8",
            );
        }
    };
    match WrittenRequest::parse(&text) {
        Ok(_) => Finding::good(
            name,
            format!("{} {}, with test_input.json", project.name, project.version),
        ),
        Err(error) => Finding::bad(
            name,
            format!("test_input.json of {}: {error}", project.name),
            r#"write {"input": …}, with an input of the handler in place of …"#,
        ),
    }
}

/// Returns whether there is a manifest in the current folder or in one of its parents.
fn has_manifest() -> bool {
    std::env::current_dir().is_ok_and(|folder| {
        let mut folders = folder.ancestors();
        folders.any(|folder| folder.join("Cargo.toml").exists())
    })
}

pub(super) fn image_tool() -> Finding {
    match ImageTool::find() {
        Ok(tool) => Finding::good("image tool", tool.name()),
        Err(problems) => Finding::note(
            "image tool",
            problems,
            "install docker, podman or buildah (apt-get install buildah) for `podwork image`",
        ),
    }
}

/// Checks the worker's variables: a local run needs none of them, a run on the platform needs all of them.
pub(super) fn environment(get: impl Fn(&str) -> Option<String>) -> Finding {
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
                "workers started here run locally ({} is not set); {key}",
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
            format!("{} is set but {} is not", env::GET_JOB, env::POST_OUTPUT),
            "workers started here cannot post results: set all of the platform's variables, or none",
        );
    }
    if missing.is_empty() {
        return Finding::good(
            name,
            "workers started here poll the platform at RUNPOD_WEBHOOK_GET_JOB",
        );
    }
    Finding::note(
        name,
        format!("not set: {}", missing.join(", ")),
        "without them a worker cannot stream, sends no heartbeat, sends no key or uses a random id",
    )
}

pub(super) fn port(port: u16) -> Finding {
    // A machine without IPv6 cannot listen on `::1`, and need not.
    let taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    let v6 = TcpListener::bind(("::1", port)).err().filter(taken);
    match v6.map_or_else(|| TcpListener::bind(("127.0.0.1", port)), Err) {
        Ok(_) => Finding::good("port", format!("{port} is free")),
        Err(error) => Finding::note(
            "port",
            format!("{port}: {error}"),
            "`podwork dev` may be running already; choose another port with --port",
        ),
    }
}

pub(super) async fn endpoint(wanted: Option<&str>, key: Option<&str>) -> Finding {
    const PATIENCE: Duration = Duration::from_secs(10);

    let name = "endpoint";
    let Some(wanted) = wanted else {
        return platform(name).await;
    };
    let asked = async { EndpointClient::new(wanted, key)?.health().await };
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(health)) => Finding::good(
            name,
            format!(
                "{wanted} is reachable; workers idle: {}, running: {}; jobs in the queue: {}",
                health.workers.idle, health.workers.running, health.jobs.in_queue
            ),
        ),
        Ok(Err(error)) => {
            // Without an answer, the key does not matter.
            let cure = if error.is::<RefusedCall>() {
                "check the endpoint's address and RUNPOD_API_KEY"
            } else {
                "check the endpoint's address"
            };
            Finding::bad(name, format!("{error:#}"), cure)
        }
        Err(_) => Finding::bad(
            name,
            format!("{wanted} did not answer within 10 s"),
            "check the endpoint's address and the network",
        ),
    }
}

/// Checks that Runpod is reachable, which only deployed workers need.
async fn platform(name: &'static str) -> Finding {
    let host = RUNPOD_HOST;
    let connecting = tokio::net::TcpStream::connect((host, 443));
    let connected = tokio::time::timeout(Duration::from_secs(5), connecting).await;
    let problem = match connected {
        Ok(Ok(_)) => {
            return Finding::good(
                name,
                format!("{host} is reachable; check your endpoint with --endpoint"),
            );
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no connection within 5 s".to_owned(),
    };
    Finding::note(
        name,
        format!("{host}: {problem}"),
        "only Runpod endpoints need it; check a local one with --endpoint http://localhost:8000",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("1.100.0-nightly") > numbers("1.95"));
        assert!(numbers("1.94.1") < numbers("1.95"));
    }

    #[test]
    fn reports_partially_set_platform_variables() {
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
