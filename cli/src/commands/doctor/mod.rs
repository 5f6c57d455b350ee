//! `podwork doctor`.

mod checks;
mod finding;

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::args::Doctor;
use crate::output::{OutputClosed, print};
use finding::{Finding, Verdict};

pub(crate) async fn doctor(args: Doctor) -> Result<ExitCode> {
    let findings = [
        checks::rust(),
        checks::c_compiler(),
        checks::worker(),
        checks::image_tool(),
        checks::environment(|name| std::env::var(name).ok()),
        checks::port(args.port),
        checks::endpoint(args.endpoint.as_deref(), args.api_key.as_deref()).await,
    ];
    let fit = findings
        .iter()
        .all(|finding| finding.verdict != Verdict::Bad);
    let report = if args.json {
        format!("{}\n", json!({ "fit": fit, "findings": findings }))
    } else {
        findings.iter().map(lines).collect()
    };
    match print(report) {
        // The exit code is the result, even if nobody reads the report.
        Err(error) if error.is::<OutputClosed>() => {}
        printed => printed?,
    }
    Ok(if fit {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn lines(finding: &Finding) -> String {
    let Finding {
        name,
        verdict,
        found,
        cure,
    } = finding;
    let sign = match verdict {
        Verdict::Good => "ok",
        Verdict::Note => "note",
        Verdict::Bad => "BAD",
    };
    let line = format!("{sign:<5}{name:<12}{found}\n");
    match cure {
        Some(cure) => format!("{line}{:17}→ {cure}\n", ""),
        None => line,
    }
}
